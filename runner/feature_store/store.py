"""The project's Feast feature store: open it, keep its registry in step with dbt, read rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from feast import FeatureStore
from feast.errors import FeastError
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.offline_stores.offline_utils import get_offline_store_from_config
from feast.repo_config import RepoConfig, load_repo_config

from runner.errors import RunnerError
from runner.feature_store.feast_objects import feast_objects, spine_source
from runner.feature_store.recipe_features import RecipeFeature as RecipeFeature
from runner.feature_store.recipe_features import recipe_features as recipe_features
from runner.feature_store.recipe_features import request_inputs as request_inputs
from runner.feature_store.recipe_features import spine_columns
from runner.feature_store.recipe_features import spine_query as spine_query
from runner.feature_store.registry_bucket import require_bucket
from runner.feature_store.registry_lock import registry_lock
from runner.project.manifest import EVENT_TIMESTAMP, Manifest, Spine

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe
    from runner.settings import Settings


# What pandas must hold Arrow's types in, so that a null stays a null and an integer an integer.
NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}


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
        with registry_lock(config.registry):  # to open it makes tables that are missing
            return FeatureStore(
                repo_path=str(settings.feature_repo), fs_yaml_file=settings.feature_store_yaml
            )
    except FeastError as err:
        raise RunnerError(
            f"{settings.feature_store_yaml}: {err}",
            hint="`runner init DIR` writes one with the types that this version has",
        ) from err


def apply_recipe(store: FeatureStore, manifest: Manifest, recipe: Recipe) -> None:
    """Bring Feast's registry in step with dbt and this recipe; other recipes' services stay."""
    with registry_lock(store.config.registry):
        store.apply(feast_objects(manifest, [recipe]), partial=True)


def apply_views(store: FeatureStore, manifest: Manifest) -> None:
    """Bring Feast's entities and feature views in step with dbt; every service stays."""
    with registry_lock(store.config.registry):
        store.apply(feast_objects(manifest, []), partial=True)


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
    table = point_in_time_table(store, spine_query(spine, columns), features)
    return table.select([*columns, *(feature.column for feature in features)])


def point_in_time_table(
    store: FeatureStore, entity_df: Any, features: list[RecipeFeature]
) -> pa.Table:
    """Return `entity_df` (SQL or DataFrame) with `features` joined as of `event_timestamp`."""
    job = point_in_time_job(store, entity_df, [feature.reference for feature in features])
    table: pa.Table = job.to_arrow()
    return table


def point_in_time_job(
    store: FeatureStore, entity_df: Any, references: Sequence[str]
) -> RetrievalJob:
    """Return the job that joins features to `entity_df` (SQL or DataFrame).

    Feast's own entry refuses to join nothing; the rows themselves are read then.
    """
    offline = get_offline_store_from_config(store.config.offline_store)
    views = {reference.partition(":")[0] for reference in references}
    return offline.get_historical_features(
        store.config,
        [store.get_feature_view(name) for name in sorted(views)],
        list(references),
        entity_df,
        store.registry,
        store.project,
        full_feature_names=True,
    )
