"""dbt exposures of recipes and their endpoints, generated so that nobody keeps them by hand.

They are written into the project's first model path, in a folder that git ignores, so that a bare
`dbt docs generate` shows them. They refer to no dbt model: one that is disabled, renamed or deleted
afterwards would stop every dbt command. `runner docs` puts the references into its copy of dbt's
manifest (`connect_exposures`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NotRequired, TypedDict

import yaml

from contract.serving_errors import ServingError
from runner import console
from runner.errors import RunnerError
from runner.project.freshness import GENERATED, GENERATED_MARK
from runner.project.manifest import Manifest, Spine, load_manifest
from runner.project.manifest_file import ManifestNode, NodeDependencies, view_name
from runner.recipes.recipe import Recipe, load_recipe
from runner.recipes.recipe_files import all_recipes
from runner.records.run_facts import CHAMPION, with_alias
from runner.records.run_reader import open_reader
from runner.settings import Settings
from runner.whole_file import write_whole
from runner.wording import show

_HEADER = f"""\
{GENERATED_MARK} from recipes/ and MLflow's registry (`runner train`, `promote`, `rollback` and
# `docs` write it). Do not edit; deleting it does no harm. Not in git.
"""
_FIGURES = "stg_monitoring__figures"


class _ExposureMeta(TypedDict):
    """What `config.meta` of an exposure names."""

    recipe: str
    reads: NotRequired[list[str]]


class _ExposureConfig(TypedDict):
    meta: _ExposureMeta


class ManifestExposure(TypedDict):
    """An exposure in dbt's manifest."""

    original_file_path: str
    config: _ExposureConfig
    depends_on: NodeDependencies


class ManifestGraph(TypedDict):
    """What of dbt's manifest its docs draw the lineage from; the maps are by unique id."""

    nodes: dict[str, ManifestNode]
    exposures: dict[str, ManifestExposure]
    parent_map: dict[str, list[str]]
    child_map: dict[str, list[str]]


def write_exposures(settings: Settings) -> None:
    """Write the exposures of every recipe that can be read; nothing if they are as they were."""
    path = _model_path(settings.root) / GENERATED / "exposures.yml"
    recipes = _recipes(settings.root)
    manifest = _manifest(settings)
    try:
        champions = _champions(settings, recipes)
    except (RunnerError, ServingError) as err:
        # What called us is done already: a registry that is away must not make it fail.
        console.warn(f"dbt's docs lack the champions: {err}")
        champions = {}
    exposures: dict[str, dict[str, object]] = {}
    for recipe in recipes:
        champion = champions.get(recipe.registered_model_name, {})
        spine = manifest.spines.get(recipe.spine) if manifest else None
        found = _exposures(recipe, spine.owner if spine else "", champion)
        if manifest and (outcome := manifest.outcome_of(recipe.spine, recipe.label)):
            figures = f"model.{manifest.project_name}.{_FIGURES}" in manifest.digests
            found.append(_monitoring(recipe, outcome, [_FIGURES] if figures else []))
        for exposure in found:
            exposures.setdefault(str(exposure["name"]), exposure)
    try:
        _write(path, list(exposures.values()))
    except OSError as err:
        # They are for reading only: a project on a read-only disk is trained all the same.
        console.warn(f"{path}: not written ({err.strerror}); dbt's docs lack recipes and endpoints")


def connect_exposures(manifest: ManifestGraph) -> None:
    """Have the generated exposures in dbt's manifest depend on the dbt models that they read."""
    models = {
        view_name(node): key
        for key, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
    }
    for key, exposure in manifest["exposures"].items():
        if not exposure["original_file_path"].endswith(f"/{GENERATED}/exposures.yml"):
            continue
        named = exposure["config"]["meta"].get("reads", [])
        reads = [models[name] for name in named if name in models]
        exposure["depends_on"]["nodes"] = manifest["parent_map"][key] = reads
        for parent in reads:
            manifest["child_map"].setdefault(parent, []).append(key)


def _recipes(root: Path) -> list[Recipe]:
    found = []
    for path in all_recipes(root):
        with suppress(RunnerError):  # `runner check` tells what is wrong with it
            found.append(load_recipe(path))
    return found


def _exposures(
    recipe: Recipe, owner: str, champion: Mapping[str, object]
) -> list[dict[str, object]]:
    """Return the exposures of the ML model and of its endpoint."""
    name = _identifier(recipe)
    file, marts = f"recipes/{recipe.path.name}", recipe.feature_marts
    named = re.search(rf"\b{re.escape(recipe.label)}\b", recipe.description)
    predicts = "" if named else f"Predicts {recipe.label}."
    scores = _scores(recipe, champion)
    run = str(champion.get("mlflow_run", ""))
    common = {
        "owner": _owner(owner),
        **({"url": run} if run.startswith("http") else {}),
    }
    return [
        {
            "name": f"recipe_{name}",
            "label": recipe.registered_model_name,
            "type": "ml",
            "description": f"{recipe.description} {predicts}".strip() + scores,
            **common,
            "config": {"meta": {"recipe": file, "reads": [recipe.spine, *marts], **champion}},
        },
        {
            "name": f"endpoint_{name}",
            "label": f"POST /predict: {recipe.registered_model_name}",
            "type": "application",
            "description": f"Answers with the champion, by `runner serve {file}`.{scores}",
            **common,
            "config": {"meta": {"recipe": file, "reads": marts, **champion}},
        },
    ]


def _monitoring(recipe: Recipe, outcome: Spine, figures: Sequence[str]) -> dict[str, object]:
    """Return the exposure of what `runner monitor` makes of the served rows and their labels.

    Parameters
    ----------
    figures
        The dbt model of the figures that it has found, if the project has one.
    """
    file = f"recipes/{recipe.path.name}"
    return {
        "name": f"monitoring_{_identifier(recipe)}",
        "label": f"runner monitor: {recipe.registered_model_name}",
        "type": "analysis",
        "description": "Drift, live quality and skew of the champion's answers, by "
        f"`runner monitor {file}`: the table `figures` in the schema `monitoring`, and a report in "
        "MLflow.",
        "owner": _owner(outcome.owner),
        "config": {"meta": {"recipe": file, "reads": [outcome.name, *figures]}},
    }


def _identifier(recipe: Recipe) -> str:
    return re.sub(r"\W", "_", recipe.name)


def _owner(owner: str) -> dict[str, str]:
    return {"name": owner or "unknown", **({"email": owner} if "@" in owner else {})}


def _scores(recipe: Recipe, champion: Mapping[str, object]) -> str:
    """Return the champion and its scores as paragraphs of Markdown; empty without a champion."""
    metrics = champion.get("metrics")
    if not isinstance(metrics, dict):
        return ""
    name, version = recipe.registered_model_name, champion["champion_version"]
    lines = ["| scorer | test rows | 95% CI |", "|---|--:|---|"]
    for scorer in recipe.scoring:
        value, low, high = (metrics.get(f"test_{scorer}{end}") for end in ("", "_low", "_high"))
        if value is not None:
            between = "" if low is None else f"{low:.4f} to {high:.4f}"
            lines.append(f"| {scorer} | {value:.4f} | {between} |")
    opened = f"`runner ui {name}@champion` opens its run in MLflow."
    return "\n\n".join(["", f"**Champion: version {version}.** {opened}", "\n".join(lines)])


def _champions(settings: Settings, recipes: list[Recipe]) -> dict[str, dict[str, object]]:
    """Return registered model → what the docs say of its champion; empty without a registry."""
    uri = settings.mlflow_tracking_uri
    reader = open_reader(settings)
    found: dict[str, dict[str, object]] = {}
    for name in {recipe.registered_model_name for recipe in recipes}:
        champion = with_alias(reader.versions(name), CHAMPION)
        run = reader.run(champion.run_id) if champion else None
        if champion is None or run is None:
            continue
        scores = {k: round(v, 4) for k, v in run.metrics.items() if k.startswith("test_")}
        link = f"#/experiments/{run.experiment_id}/runs/{run.run_id}"  # in MLflow's UI
        found[name] = {
            "champion_version": champion.version,
            "metrics": dict(sorted(scores.items())),
            "mlflow_run_id": run.run_id,
            "mlflow_run": f"{uri.rstrip('/')}/{link}" if uri.startswith("http") else link,
        }
    return found


def _manifest(settings: Settings) -> Manifest | None:
    """Return the marts and spines, as far as dbt has read the project."""
    with suppress(RunnerError):
        return load_manifest(settings.manifest_path)
    return None


def _model_path(root: Path) -> Path:
    """Return the first folder of dbt models."""
    path = root / "dbt_project.yml"
    try:
        project = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        hint = "correct it; `dbt parse` reads it too"
        raise RunnerError(f"{path}: not YAML: {err}", hint=hint) from err
    folders = project.get("model-paths", ["models"]) if isinstance(project, dict) else None
    if not (folders and isinstance(folders, list) and all(isinstance(f, str) for f in folders)):
        raise RunnerError(
            f"{path}: model-paths: expected one or more folders in a list, got {show(folders)}",
            hint='write model-paths: ["models"], or as dbt init does',
        )
    return root / str(folders[0])


def _write(path: Path, exposures: list[dict[str, object]]) -> None:
    """Replace the file at once, if it changes: dbt may be reading it."""
    plain = json.loads(json.dumps({"exposures": exposures}))  # nothing shared: no YAML anchors
    text = _HEADER + yaml.safe_dump(plain, sort_keys=False, width=100)
    text = re.sub("[{](?=[{%#])", "{ ", text)  # what dbt would take for Jinja
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    write_whole(path, text)
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
