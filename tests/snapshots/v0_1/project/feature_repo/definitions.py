"""Feast's entry: every definition is built from dbt's manifest and the recipes, none by hand.

`feast -c feature_repo apply` loads this file. Run `dbt parse` first: it writes the manifest.
"""

from pathlib import Path

from runner.features.definitions import feast_objects
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe

_project = Path(__file__).resolve().parent.parent
_manifest = load_manifest(_project / "target" / "manifest.json")
_recipes = [load_recipe(path) for path in sorted((_project / "recipes").glob("*.yaml"))]

# Feast takes what it finds among a module's names.
globals().update({f"{type(o).__name__}_{o.name}": o for o in feast_objects(_manifest, _recipes)})
