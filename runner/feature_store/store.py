"""The project's Feast feature store: open it, keep its registry in step with dbt, read rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.errors import FeastError
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.offline_stores.offline_utils import get_offline_store_from_config
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig, load_repo_config

from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects, joined_views, spine_source
from runner.feature_store.recipe_features import JoinedFeature
from runner.feature_store.recipe_features import RecipeFeature as RecipeFeature
from runner.feature_store.recipe_features import recipe_features as recipe_features
from runner.feature_store.recipe_features import request_inputs as request_inputs
from runner.feature_store.recipe_features import spine_query as spine_query
from runner.feature_store.registry_bucket import require_bucket
from runner.feature_store.registry_lock import guard_bucket, is_in_bucket, one_writer
from runner.project.manifest import EVENT_TIMESTAMP, Manifest, Spine, full_name
from runner.recipes.spine_columns import spine_columns
from runner.warehouse.mart_snapshot import as_number

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe
    from runner.settings import Settings


def open_store(settings: Settings) -> FeatureStore:
    """Return Feast's store for the settings' target; exports the connection variables first.

    Raises
    ------
    RunnerError
        If there is no feature_store yaml, or Feast cannot make a store of it.
    """
    settings.export()
    if not settings.feature_store_yaml.is_file():
        raise RunnerError(
            f"{settings.feature_store_yaml}: no such file",
            hint="copy it from the runner repository's profiles/ folder",
        )
    registry = settings.env.get("FEAST_REGISTRY", "")
    if registry.startswith("gs://"):
        require_bucket(registry)
    try:
        config = load_repo_config(settings.feature_repo, settings.feature_store_yaml)
        guard_bucket(config.registry)
        store = FeatureStore(repo_path=str(settings.feature_repo), config=config)
        # To open it makes the tables or the file that are missing.
        one_writer(config.registry, lambda: store.registry)
    except FeastError as err:
        raise RunnerError(
            f"{settings.feature_store_yaml}: {err}",
            hint="`runner init DIR` writes one with the types that this version has",
        ) from err
    return store


def apply_recipe(store: FeatureStore, manifest: Manifest, recipe: Recipe) -> None:
    """Bring Feast's registry in step with dbt and this recipe; other recipes' services stay."""
    _apply(store, manifest, [recipe])


def apply_views(store: FeatureStore, manifest: Manifest) -> None:
    """Bring Feast's entities and feature views in step with dbt; every service stays."""
    _apply(store, manifest, [])


def _apply(store: FeatureStore, manifest: Manifest, recipes: Sequence[Recipe]) -> None:
    registry = store.config.registry

    def write() -> None:
        if is_in_bucket(registry):  # Feast would change what it read some time ago
            store.refresh_registry()
        store.apply(feast_objects(manifest, recipes), partial=True)

    one_writer(registry, write)


def spine_job(config: RepoConfig, spine: Spine, label: str) -> RetrievalJob:
    """Return the job that reads a label and `event_timestamp` (UTC) of the spine, in no order."""
    store = get_offline_store_from_config(config.offline_store)
    source = spine_source(spine)
    return store.pull_all_from_table_or_query(config, source, [], [label], EVENT_TIMESTAMP)


def training_table(
    store: FeatureStore, recipe: Recipe, spine: Spine, features: list[RecipeFeature]
) -> pa.Table:
    """Return the training rows: what the recipe reads of its spine, then the features.

    Returns
    -------
    pyarrow.Table of shape (n_spine_rows, n_spine_columns + n_features)
        Each feature as it was knowable at the row's `event_timestamp` (UTC); null where nothing
        was known. As many rows as the spine, in the order of `spine_query`.
    """
    columns = spine_columns(recipe, spine)
    joined = [feature.joined for feature in features]
    table = point_in_time_table(store, spine_query(spine, columns), joined)
    for name in recipe.request:
        table = table.set_column(table.column_names.index(name), name, as_number(table[name]))
    return table.select([*columns, *(feature.column for feature in features)])


def point_in_time_table(
    store: FeatureStore, entity_df: pd.DataFrame | str, features: Sequence[JoinedFeature]
) -> pa.Table:
    """Return `entity_df` (SQL or DataFrame) with `features` joined as of `event_timestamp`."""
    table: pa.Table = _join_job(store, entity_df, features).to_arrow()
    return pa.Table.from_arrays(table.columns, schema=_renamed(table.schema, features))


@contextmanager
def point_in_time_batches(
    store: FeatureStore, entity_df: pd.DataFrame | str, features: Sequence[JoinedFeature]
) -> Iterator[pa.RecordBatchReader]:
    """Give the same as `point_in_time_table`, batch by batch."""
    with _join_job(store, entity_df, features).to_arrow_batches() as reader:
        schema = _renamed(reader.schema, features)
        batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in reader)
        yield pa.RecordBatchReader.from_batches(schema, batches)


def _renamed(schema: pa.Schema, features: Sequence[JoinedFeature]) -> pa.Schema:
    """Return the schema of a join's answer with the names that its features are to have."""
    names = {full_name(one.alias, one.feature): one.column for one in features}
    return pa.schema(
        [field.with_name(names.get(field.name, field.name)) for field in schema],
        metadata=schema.metadata,
    )


def _join_job(
    store: FeatureStore, entity_df: pd.DataFrame | str, features: Sequence[JoinedFeature]
) -> RetrievalJob:
    """Return the job of the join, from the views of Feast's registry.

    Feast's own entry takes no view in a role but from a feature service, and refuses to join no
    feature at all; then the rows themselves are read.
    """
    views = {name: store.get_feature_view(name) for name in {one.view for one in features}}
    return join_job(store.config, views, entity_df, features, store.registry)


def join_job(
    config: RepoConfig,
    views: Mapping[str, FeatureView],
    entity_df: pd.DataFrame | str,
    features: Sequence[JoinedFeature],
    registry: BaseRegistry,
) -> RetrievalJob:
    """Return the job that joins features of these views, by name; columns go by their alias."""
    return get_offline_store_from_config(config.offline_store).get_historical_features(
        config,
        joined_views(views, features),
        [f"{one.alias}:{one.feature}" for one in features],
        entity_df,
        registry,
        config.project,
        full_feature_names=True,
    )
