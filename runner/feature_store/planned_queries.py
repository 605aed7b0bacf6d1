"""The SQL that training and materializing would run, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from runner.feature_store.recipe_features import RecipeFeature, by_mart, spine_query
from runner.project.manifest import FeatureMart, Manifest, Spine
from runner.recipes.recipe import Recipe
from runner.recipes.spine_columns import spine_columns
from runner.settings import Settings
from runner.warehouse.postgres import mart_join
from runner.warehouse.postgres.store_config import PostgresStoreConfig, load_store_config


class PlannedQueries(Protocol):
    """Writes the queries of a training; the tables that they read must exist."""

    def join_query(self, recipe: Recipe, spine: Spine, features: Sequence[RecipeFeature]) -> str:
        """Return the SQL of the point-in-time join."""

    def split_query(self, spine: Spine, label: str) -> str:
        """Return the SQL that reads what is split by time."""


class MartQueries:
    """See `PlannedQueries`; for our PostgreSQL store, without Feast."""

    def __init__(self, config: PostgresStoreConfig) -> None:
        self._config = config

    def join_query(self, recipe: Recipe, spine: Spine, features: Sequence[RecipeFeature]) -> str:
        """See `PlannedQueries`."""
        rows = spine_query(spine, spine_columns(recipe, spine))
        return mart_join.join_query(self._config, rows, by_mart(features))

    def split_query(self, spine: Spine, label: str) -> str:
        """See `PlannedQueries`."""
        return mart_join.labels_query(self._config, spine, label)


def open_queries(settings: Settings, manifest: Manifest) -> PlannedQueries:
    """Return what writes the queries; Feast is asked where the offline store is not ours."""
    config = load_store_config(settings)
    if config is not None:
        return MartQueries(config)
    from runner.feature_store.feast_queries import FeastQueries

    return FeastQueries(settings, manifest)


def newest_query(settings: Settings, mart: FeatureMart) -> str:
    """Return the SQL that a full materialization of `mart` runs; its table must exist."""
    now = datetime.now(UTC)
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.mart import planned_query

        return planned_query(mart, now)
    from runner.warehouse.postgres.mart import open_postgres_mart

    with open_postgres_mart(settings.postgres, mart) as snapshot:
        return snapshot.newest_query(now, None)
