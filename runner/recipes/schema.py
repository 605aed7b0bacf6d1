"""The JSON Schema of recipes, with which editors complete and check them.

`python -m runner.recipes.schema > schemas/recipe.schema.json` renews the published one.
"""

from __future__ import annotations

from typing import Any

from runner import console
from runner.recipes.recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema: every key with its description, type, default and choices.

    What two keys must be to each other (such as task and scoring) is not in it.
    """
    schema: dict[str, Any] = _tidy(Recipe.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _tidy(part: Any) -> Any:
    """Return the part with descriptions on one line and without the titles pydantic makes up."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return " ".join(part.split()) if isinstance(part, str) else part
    return {key: _tidy(value) for key, value in part.items() if key != "title"}


if __name__ == "__main__":
    console.result_json(recipe_schema())
