"""The story of `runner cost`: what a month of a deployment costs.

BigQuery's share is that of `runner plan` for each recipe, times the schedules; the rest follows
from the sizes in `deploy/Pulumi.<stack>.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.bytes_billed import LEAST_BILLED
from runner.commands.cloud.deployment_sizes import DeploymentSizes, read_sizes, runs_per_month
from runner.commands.cloud.monthly_bill import BillPart, MonthOfUse, monthly_bill
from runner.commands.training.plan import plan
from runner.commands.training.plan_steps import Kind, Plan, PlanStep
from runner.errors import RunnerError
from runner.settings import Settings

REFERENCE: Mapping[int, float] = {1_000: 70.0, 10_000: 150.0}
"""The reference design's totals in USD, by predictions a month."""
_BUILD: tuple[Kind, ...] = ("dbt model", "dbt tests")
_STORED_GIB = 50.0  # the reference design's for a small operation; only the bill knows the real one
_COLLECTION = 2 * LEAST_BILLED  # two tables
_ANSWER_GIB = 4 / 2**20  # 4 KiB


@dataclass(frozen=True)
class MonthlyCost:
    """A month's bill.

    Attributes
    ----------
    unknown
        Steps whose bytes are not known: they are not in the bill.
    hint
        How to make them known.
    """

    stack: str
    predictions: int
    parts: Sequence[BillPart]
    unknown: Sequence[PlanStep]
    hint: str

    @property
    def usd(self) -> float:
        """All parts together."""
        return sum(part.usd for part in self.parts)


def cost(settings: Settings, stack: str, predictions: int) -> MonthlyCost:
    """Return what a month costs with so many predictions.

    Raises
    ------
    RunnerError
        On the local target, or if the deployment's settings or a recipe cannot be planned.
    """
    if settings.target != "cloud":
        raise RunnerError("a local project costs nothing", hint="add --target cloud")
    sizes = read_sizes(settings.root, stack)
    plans = [plan(settings, settings.root / recipe) for recipe in sizes.recipes]
    use = MonthOfUse(
        predictions=predictions,
        bytes_billed=bytes_per_month(sizes, plans),
        stored_gib=_STORED_GIB,
        warehouse_gib=_STORED_GIB,
        network_gib=predictions * _ANSWER_GIB,
    )
    price = plans[0].price_per_tib or 0.0
    unknown = [step for planned in plans for step in planned.steps if step.problem]
    hint = next((planned.hint for planned in plans if planned.hint), "")
    return MonthlyCost(stack, predictions, monthly_bill(sizes, use, price), unknown, hint)


def bytes_per_month(sizes: DeploymentSizes, plans: Sequence[Plan]) -> float:
    """Return what BigQuery bills the scheduled jobs for.

    A materialization builds every dbt model and copies what changed: it reads as much as a full
    one, and asks each mart which partitions were written. A refresh may do the same, after merging
    a small table into a day's partition. An audit joins as a training does, and so does monitoring.
    """
    when = sizes.schedules
    every = _unique(step for planned in plans for step in planned.steps)
    marts = sum(step.kind == "materialize" for step in every)
    materialize = _billed(every, *_BUILD, "materialize", "sweep") + marts * LEAST_BILLED
    train = sum(_billed(planned.steps, *_BUILD, "split", "join") for planned in plans)
    audit = sum(_billed(planned.steps, "join") for planned in plans)
    return (
        runs_per_month(when.materialize) * materialize
        + runs_per_month(when.refresh) * (_COLLECTION + materialize)
        + runs_per_month(when.train) * train
        + (runs_per_month(when.audit) + runs_per_month(when.monitor)) * audit
    )


def require_within(found: MonthlyCost, max_cost: float) -> None:
    """Raise RunnerError if the month costs more, or if nobody can say what it costs."""
    if found.usd > max_cost:
        most = max(found.parts, key=lambda part: part.usd)
        raise RunnerError(
            f"a month costs {found.usd:.2f} USD, more than --max-cost {max_cost}; most of it is "
            f"{most.name}, {most.usd:.2f} USD",
            hint=f"choose smaller sizes or rarer schedules in deploy/Pulumi.{found.stack}.yaml, or "
            "raise --max-cost",
        )
    if found.unknown:
        first = found.unknown[0]
        raise RunnerError(
            f"{len(found.unknown)} steps cannot be estimated, so nobody can say that a month costs "
            f"no more than --max-cost {max_cost}; the first is {first.what}: {first.problem}",
            hint=found.hint or "correct what it says, then try again",
        )


def _unique(steps: Iterable[PlanStep]) -> list[PlanStep]:
    """Return each step once: recipes share dbt models and feature views."""
    return list({(step.kind, step.name): step for step in steps}.values())


def _billed(steps: Iterable[PlanStep], *kinds: Kind) -> int:
    return sum(step.bill.bytes_billed for step in steps if step.kind in kinds)
