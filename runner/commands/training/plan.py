"""The story of `runner plan`: what a training and a materialization would run, and its price.

dbt compiles, Feast's stores write their queries, the warehouse says what it expects of each.
Nothing is run or written there. What reads a table that is not built yet is not estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner import console
from runner.bytes_billed import LEAST_BILLED, NOTHING_BILLED, Billed, over_limit, query_usd
from runner.commands.builds.built_sql import require_fit
from runner.commands.builds.feature_guard import refused_by_build
from runner.errors import RunnerError
from runner.feature_store.planned_queries import PlannedQueries, newest_query, open_queries
from runner.feature_store.recipe_features import recipe_features
from runner.project.compiled import CompiledModel, up_to_date_models
from runner.project.manifest import FeatureMart, Manifest, Spine, load_manifest
from runner.recipes.recipe import Recipe, load_recipe
from runner.recipes.references import check_references
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.duplicate_rows import duplicates_sql

if TYPE_CHECKING:
    from runner.warehouse.bigquery.estimates import BigQueryEstimates
    from runner.warehouse.postgres.estimates import PostgresEstimates

    Warehouse = BigQueryEstimates | PostgresEstimates

Kind = Literal["dbt model", "dbt tests", "split", "duplicates", "join", "materialize", "sweep"]
PRICE = "BIGQUERY_PRICE_PER_TIB"


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
        On PostgreSQL what the planner expects; on BigQuery what the table holds now, for the join
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


def plan(settings: Settings, path: Path) -> Plan:
    """Return what `runner train` and `runner materialize` of the recipe at `path` would run.

    Raises
    ------
    RunnerError
        If the recipe does not fit dbt's models, dbt cannot compile, or the warehouse is not there.
    """
    recipe = load_recipe(path)
    price = _price_per_tib(settings)
    require_fit(settings, recipe)
    require_servers(settings)
    with console.step("dbt: compile spine and feature marts") as step:
        selected = [recipe.spine, *recipe.feature_marts]
        models = up_to_date_models(settings, selected, step.update)
        changed = tuple(refused_by_build(settings, selected, step.update))
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    asking = console.step("ask the warehouse what it expects")
    with asking as step, _planner(settings, manifest) as planner:
        steps = (*planner.dbt_steps(models), *planner.feast_steps(manifest, recipe))
        planned = Plan(steps, price, planner.warehouse.limit, planner.hint(models), changed)
        step.update(f"{len(steps)} steps")
    return planned


def require_price(settings: Settings) -> None:
    """Raise RunnerError on the local target, where nothing has a price."""
    if _price_per_tib(settings) is None:
        raise RunnerError(
            "--max-cost: PostgreSQL bills nothing", hint="leave it out, or plan for --target cloud"
        )


def require_affordable(planned: Plan, max_cost: float | None) -> None:
    """Raise if a query is above the limit of bytes billed, or all together above `max_cost` USD.

    Raises
    ------
    RunnerError
        Naming the step and its bytes. With `max_cost` also if a step could not be estimated:
        nobody can say then what all of them cost.
    """
    for step in planned.steps:
        needed = max((bill.bytes_billed for bill in step.bills), default=0)
        if planned.limit is not None and needed > planned.limit:
            raise over_limit(step.what, needed=needed, limit=planned.limit)
    if max_cost is None:
        return
    if planned.usd > max_cost:
        most = max(planned.steps, key=lambda step: step.bill.bytes_billed)
        raise RunnerError(
            f"the plan costs {planned.usd:.6f} USD, more than --max-cost {max_cost}; most of it is "
            f"{most.what}, billed for {most.bill.bytes_billed:,} bytes, "
            f"{planned.price(most):.6f} USD",
            hint="let it read less (fewer columns, a shorter period), or raise --max-cost",
        )
    unknown = [step for step in planned.steps if step.problem]
    if unknown:
        raise RunnerError(
            f"{len(unknown)} of {len(planned.steps)} steps cannot be estimated, so nobody can say "
            f"that they cost no more than --max-cost {max_cost}; the first is {unknown[0].what}: "
            f"{unknown[0].problem}",
            hint=planned.hint or "correct what it says, then plan again",
        )


@dataclass(frozen=True)
class _Planner:
    """Asks one warehouse about every step."""

    settings: Settings
    warehouse: Warehouse
    queries: PlannedQueries

    def dbt_steps(self, models: Sequence[CompiledModel]) -> Iterator[PlanStep]:
        for model in models:
            yield self._model(model)
            if model.tests:
                sql = list(model.tests.values())
                yield self._step("dbt tests", model.name, model.tested, partial(list, sql))

    def feast_steps(self, manifest: Manifest, recipe: Recipe) -> Iterator[PlanStep]:
        marts = [manifest.marts[name] for name in recipe.feature_marts]
        yield self._split(manifest.spines[recipe.spine], recipe.label)
        if self.settings.target == "cloud":
            yield from map(self._duplicates, marts)
        yield self._join(manifest, recipe, marts)
        for mart in marts:
            if mart.online:
                yield self._materialize(mart)
                if self.settings.target == "cloud":
                    yield self._sweep(mart)

    def _model(self, model: CompiledModel) -> PlanStep:
        queries = [model.sql]
        if model.materialized == "incremental" and self.warehouse.exists(model.relation):
            queries += self.warehouse.merge_reads(model.relation)
        step = self._step(
            "dbt model", model.name, model.parents, lambda: queries, fills=model.relation
        )
        if model.materialized == "view" and step.bills:
            return replace(step, bills=(NOTHING_BILLED,))  # defined, not read
        return step

    def _split(self, spine: Spine, label: str) -> PlanStep:
        return self._step(
            "split",
            spine.name,
            {spine.path: spine.name},
            lambda: [self.queries.split_query(spine, label)],
            fills=spine.path,
        )

    def _duplicates(self, mart: FeatureMart) -> PlanStep:
        return self._step(
            "duplicates", mart.name, {mart.path: mart.name}, lambda: [duplicates_sql(mart)]
        )

    def _join(self, manifest: Manifest, recipe: Recipe, marts: Sequence[FeatureMart]) -> PlanStep:
        spine, features = manifest.spines[recipe.spine], recipe_features(recipe, manifest)
        reads = {relation.path: relation.name for relation in (spine, *marts)}
        return self._step(
            "join",
            spine.name,
            reads,
            lambda: [self.queries.join_query(recipe, spine, features)],
            fills=spine.path,  # as many rows come out as the spine has
        )

    def _materialize(self, mart: FeatureMart) -> PlanStep:
        return self._step(
            "materialize",
            mart.name,
            {mart.path: mart.name},
            lambda: [newest_query(self.settings, mart)],
        )

    def _sweep(self, mart: FeatureMart) -> PlanStep:
        """Return the search for stored entities that are gone, as many as the mart has rows."""
        from runner.warehouse.bigquery.mart import BigQueryMart, planned_look_up

        step = self._step(
            "sweep",
            mart.name,
            {mart.path: mart.name},
            lambda: [planned_look_up(mart, datetime.now(UTC))],
            fills=mart.path,
        )
        times = ceil((step.rows or 1) / BigQueryMart.keys_at_once) if mart.join_keys else 1
        keys = Billed(0, LEAST_BILLED)  # they go up as a table, which each query reads too
        return replace(step, bills=tuple(bill + keys for bill in step.bills) * times)

    def _step(
        self,
        kind: Kind,
        name: str,
        reads: Mapping[str, str],
        queries: Callable[[], Sequence[str]],
        *,
        fills: str | None = None,
    ) -> PlanStep:
        """Return the step, estimated if all that it `reads` (relation → name) exists."""
        missing = [parent for table, parent in reads.items() if not self.warehouse.exists(table)]
        if missing:
            return PlanStep(kind, name, problem=f"not built yet: {', '.join(missing)}")
        try:
            sql = tuple(queries())
            found = [self.warehouse.expected(query, fills) for query in sql]
        except RunnerError as err:
            return PlanStep(kind, name, problem=" ".join(err.message.split()))
        bills = tuple(one.bill for one in found if one.bill is not None)
        return PlanStep(
            kind, name, sql, rows=found[0].rows if kind != "dbt tests" else None, bills=bills
        )

    def hint(self, models: Sequence[CompiledModel]) -> str:
        """Return how to build what is missing: views first, if there are any, for they are free."""
        missing = [model for model in models if not self.warehouse.exists(model.relation)]
        views: dict[str, str] = {}
        for model in missing:
            absent = [p for p in model.parents if p not in views and not self.warehouse.exists(p)]
            if model.materialized == "view" and not absent:
                views[model.relation] = model.name
        target = self.settings.target
        if views:
            return (
                f"`dbt run --select {' '.join(views.values())} --target {target}` creates the "
                "missing views, which reads nothing; then plan again"
            )
        names = " ".join(model.name for model in missing)
        return f"`dbt build --select {names} --target {target}`, then plan again" if names else ""


@contextmanager
def _planner(settings: Settings, manifest: Manifest) -> Iterator[_Planner]:
    if settings.target == "cloud":
        from runner.feature_store.feast_queries import FeastQueries
        from runner.warehouse.bigquery.estimates import BigQueryEstimates

        queries = FeastQueries(settings, manifest)
        yield _Planner(settings, BigQueryEstimates(queries.config.offline_store), queries)
        return
    from runner.warehouse.postgres.estimates import open_estimates

    with open_estimates(settings.postgres) as warehouse:
        yield _Planner(settings, warehouse, open_queries(settings, manifest))


def _price_per_tib(settings: Settings) -> float | None:
    """Return USD per 2**40 bytes billed; None on PostgreSQL."""
    if settings.target == "local":
        return None
    text = settings.env.get(PRICE) or "6.25"
    try:
        price = float(text)
    except ValueError:
        price = -1
    if not 0 <= price < inf:
        raise RunnerError(
            f"{PRICE}={text!r} is not a price", hint=f"set {PRICE} to USD per TiB, such as 6.25"
        )
    return price
