"""Versions of feature marts that nobody reads any more."""

from __future__ import annotations

from collections.abc import Iterator

from contract.serving_errors import ServingError
from runner.errors import RunnerError
from runner.project.manifest import Manifest
from runner.project.manifest_file import parents_of, read_manifest, view_name
from runner.recipes.recipe import load_recipe
from runner.recipes.recipe_files import all_recipes
from runner.records.served_versions import served_versions
from runner.settings import Settings


def unneeded_versions(settings: Settings, manifest: Manifest) -> list[str]:
    """Return the versioned marts that no recipe, dbt model or version with an alias reads.

    None where that cannot be known: MLflow is a server, which is not asked, or a recipe is wrong.
    """
    marts = {name for name, mart in manifest.marts.items() if mart.selector not in {"", name}}
    if not marts or not settings.mlflow_tracking_uri.startswith("sqlite:///"):
        return []
    try:
        needed = {*_of_recipes(settings), *_of_dbt(manifest)}
        for version in served_versions(settings, manifest):
            needed |= {taken.view for taken in version.features}
    except (RunnerError, ServingError):
        return []
    return sorted(marts - needed)


def _of_recipes(settings: Settings) -> Iterator[str]:
    for path in all_recipes(settings.root):
        yield from load_recipe(path).feature_marts


def _of_dbt(manifest: Manifest) -> Iterator[str]:
    """Yield the dbt models that others read."""
    nodes = read_manifest(manifest.path)["nodes"]
    for node in nodes.values():
        if node["resource_type"] in {"model", "snapshot"}:
            yield from (view_name(nodes[key]) for key in parents_of(node) if key in nodes)
