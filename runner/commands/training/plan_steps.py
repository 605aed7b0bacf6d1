"""A plan's steps: what each would read, return and be billed for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runner.bytes_billed import NOTHING_BILLED, Billed, query_usd
from runner.errors import RunnerError

Kind = Literal["dbt model", "dbt tests", "split", "duplicates", "join", "materialize", "sweep"]


@dataclass(frozen=True)
class PlanStep:
    """One step of the plan.

    Attributes
    ----------
    name
        Of the dbt model, the spine that features are joined to, or the feature view.
    sql
        Its queries.
    rows
        On PostgreSQL what its planner expects; on BigQuery what the table holds now, for the join
        what its spine holds and for a sweep what its mart holds; None: not known.
    bills
        What each of its queries would read and be billed for at most; empty: not known, or
        PostgreSQL.
    problem
        Why it cannot be estimated; empty if it is.
    """

    kind: Kind
    name: str
    sql: tuple[str, ...] = ()
    rows: int | None = None
    bills: tuple[Billed, ...] = ()
    problem: str = ""

    @property
    def what(self) -> str:
        """The step as errors call it."""
        return f"{self.kind} {self.name}"

    @property
    def bill(self) -> Billed:
        """That of all its queries."""
        return sum(self.bills, NOTHING_BILLED)


@dataclass(frozen=True)
class Plan:
    """Every step in the order of running.

    Attributes
    ----------
    price_per_tib
        USD per 2**40 bytes billed; None on PostgreSQL, which bills nothing.
    limit
        Most bytes that one query may be billed for; None: any number.
    hint
        How to build what is missing; empty if nothing is.
    changed
        Why training would be refused: features that served versions take are others now.
    """

    steps: tuple[PlanStep, ...]
    price_per_tib: float | None = None
    limit: int | None = None
    hint: str = ""
    changed: tuple[RunnerError, ...] = ()

    @property
    def usd(self) -> float:
        """The price of the steps that could be estimated."""
        return sum(map(self.price, self.steps))

    def price(self, step: PlanStep) -> float:
        """Return what one step costs in USD at most."""
        return query_usd(step.bill.bytes_billed, self.price_per_tib or 0)
