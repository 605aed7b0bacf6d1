"""The columns of its spine that a recipe reads."""

from __future__ import annotations

from runner.project.manifest import EVENT_TIMESTAMP, Spine
from runner.recipes.recipe import Recipe


def spine_columns(recipe: Recipe, spine: Spine) -> list[str]:
    """Return all that a recipe reads of its spine: keys, time, label, slices, request inputs."""
    columns = [*spine.join_keys, EVENT_TIMESTAMP, recipe.label, *recipe.spine_columns]
    return list(dict.fromkeys(columns))


def spine_names(recipe: Recipe, spine: Spine) -> dict[str, str]:
    """Return the spine's column names in training rows, each with what has the name."""
    return {name: f"the column {name} of {spine.name}" for name in spine_columns(recipe, spine)}
