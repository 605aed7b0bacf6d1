"""A model as users name it: by its registered name, or by a recipe."""

from __future__ import annotations

from pathlib import Path


def registered_name(model: str) -> str:
    """Return the registered model's name, where `model` may be a recipe's path.

    Raises
    ------
    RunnerError
        If the recipe is wrong.
    """
    if not model.endswith((".yaml", ".yml")):
        return model
    from runner.recipes.recipe import load_recipe

    return load_recipe(Path(model)).registered_model_name
