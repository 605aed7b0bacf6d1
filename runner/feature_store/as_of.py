"""Features of a few entities at an instant, by the point-in-time join that training uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from runner.feature_store.recipe_features import RecipeFeature, by_mart
from runner.project.manifest import Manifest
from runner.recipes.recipe import Recipe
from runner.settings import Settings
from runner.warehouse.postgres.mart_join import join_frame
from runner.warehouse.postgres.store_config import load_store_config

if TYPE_CHECKING:
    import pandas as pd

AsOf = Callable[["pd.DataFrame", Sequence[RecipeFeature]], pa.Table]
"""Joins the features of one feature mart to a frame of entity keys and `event_timestamp`."""


def open_as_of(settings: Settings, manifest: Manifest, recipe: Recipe) -> AsOf:
    """Return the join of the settings' target.

    Feast is asked where the offline store is not our PostgreSQL's; its registry is brought in step
    with dbt and the recipe first.
    """
    config = load_store_config(settings)
    if config is not None:
        return lambda frame, features: join_frame(config, frame, by_mart(features))
    from runner.feature_store.store import apply_recipe, open_store, point_in_time_table

    store = open_store(settings)
    apply_recipe(store, manifest, recipe)
    return lambda frame, features: point_in_time_table(
        store, frame, [feature.joined for feature in features]
    )
