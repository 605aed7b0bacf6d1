"""A recipe's training rows as dbt and Feast make them now; nothing is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import console
from runner.commands.builds.built_sql import build_sql, require_fit

if TYPE_CHECKING:
    import pyarrow as pa

    from runner.recipes.recipe import Recipe
    from runner.settings import Settings


def joined_rows(settings: Settings, recipe: Recipe) -> pa.Table:
    """Build the recipe's SQL and return its training rows, in the order of `training_table`.

    The recipe's computed columns follow the features.

    Raises
    ------
    RunnerError
        If the recipe does not fit dbt's models, or its rows cannot be built or joined.
    """
    from runner.feature_store.store import (
        apply_views,
        open_store,
        recipe_features,
        request_inputs,
        training_table,
    )
    from runner.modelling.model_inputs import with_computed
    from runner.recipes.computed_columns import computed_columns

    require_fit(settings, recipe)
    manifest = build_sql(settings, recipe).manifest
    features = recipe_features(recipe, manifest)
    with console.step("feast: join features point-in-time") as step:
        store = open_store(settings)
        apply_views(store, manifest)
        spine = manifest.spines[recipe.spine]
        table = with_computed(
            training_table(store, recipe, spine, features),
            [*features, *request_inputs(recipe, spine)],
            computed_columns(recipe, manifest),
        )
        step.update(f"{table.num_rows:,} rows × {len(features)} features")
    return table
