"""The steps of a training and a materialization, each estimated by the warehouse.

A step that reads a table that is not built yet is not estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from runner.bytes_billed import LEAST_BILLED, NOTHING_BILLED, Billed
from runner.commands.training.plan_steps import Kind, PlanStep
from runner.errors import RunnerError
from runner.feature_store.planned_queries import PlannedQueries, newest_query, open_queries
from runner.feature_store.recipe_features import recipe_features
from runner.project.compiled import CompiledModel
from runner.project.manifest import FeatureMart, Manifest, Spine
from runner.recipes.recipe import Recipe
from runner.settings import Settings
from runner.warehouse.duplicate_rows import duplicates_sql

if TYPE_CHECKING:
    from runner.warehouse.bigquery.estimates import BigQueryEstimates
    from runner.warehouse.postgres.estimates import PostgresEstimates

    Warehouse = BigQueryEstimates | PostgresEstimates


@dataclass(frozen=True)
class Planner:
    """Asks one warehouse about every step."""

    settings: Settings
    warehouse: Warehouse
    queries: PlannedQueries

    def dbt_steps(self, models: Sequence[CompiledModel]) -> Iterator[PlanStep]:
        """Yield the steps that dbt runs: models, each with its tests."""
        for model in models:
            yield self._model(model)
            if model.tests:
                sql = list(model.tests.values())
                yield self._step("dbt tests", model.name, model.tested, partial(list, sql))

    def feast_steps(self, manifest: Manifest, recipe: Recipe) -> Iterator[PlanStep]:
        """Yield the steps after the build: split, join and materialization."""
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
        """Return the search for stored entities that are gone, for as many as the mart has rows."""
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


@contextmanager
def open_planner(settings: Settings, manifest: Manifest) -> Iterator[Planner]:
    """Yield what asks the target's warehouse."""
    if settings.target == "cloud":
        from runner.feature_store.feast_queries import FeastQueries
        from runner.warehouse.bigquery.estimates import BigQueryEstimates

        queries = FeastQueries(settings, manifest)
        yield Planner(settings, BigQueryEstimates(queries.config.offline_store), queries)
        return
    from runner.warehouse.postgres.estimates import open_estimates

    with open_estimates(settings.postgres) as warehouse:
        yield Planner(settings, warehouse, open_queries(settings, manifest))
