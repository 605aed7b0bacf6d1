"""A model as users name it: by its registered name, or by a recipe."""

from __future__ import annotations

import re
from pathlib import Path

_VERSION = re.compile(r"(?P<model>.+?)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))?")


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


def version_uri(model: str) -> str:
    """Return MLflow's URI of `MODEL@ALIAS`, of `MODEL/VERSION`, or of the champion of `MODEL`.

    `MODEL` is a recipe's path or a registered name.
    """
    found = _VERSION.fullmatch(model)
    if found is None:
        return f"models:/{model}@champion"
    name = registered_name(found["model"])
    number, alias = found["number"], found["alias"] or "champion"
    return f"models:/{name}/{number}" if number else f"models:/{name}@{alias}"
