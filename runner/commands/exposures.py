"""dbt exposures of recipes and their endpoints, generated so that nobody keeps them by hand.

They are written into the project's first model path, in a folder that git ignores, and a bare
`dbt docs generate` shows them. Whatever a recipe names that has no file there is left out, so that
dbt never fails for an exposure. So is what dbt has disabled, as far as dbt has read the project:
where it was disabled since, `dbt.run` takes the exposures away.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml

from runner import console
from runner.errors import RunnerError
from runner.project.freshness import GENERATED, GENERATED_MARK
from runner.project.manifest import load_manifest
from runner.recipes.recipe import Recipe, all_recipes, load_recipe
from runner.records.run_facts import CHAMPION, with_alias
from runner.records.run_reader import open_reader
from runner.settings import Settings
from runner.wording import show

_HEADER = f"""\
{GENERATED_MARK} from recipes/ and MLflow's registry (`runner train`, `promote`, `rollback`,
# `check` and `docs` write it). Do not edit; deleting it does no harm. Not in git.
"""
_CHAMPION = ("champion_version", "metrics", "mlflow_run_id", "mlflow_run")


def write_exposures(settings: Settings, *, ask_registry: bool = False) -> None:
    """Write the exposures of every recipe that can be read; nothing if they are as they were.

    Parameters
    ----------
    ask_registry
        Ask MLflow for the champions. Otherwise what it said last time is kept.
    """
    paths = _model_paths(settings.root)
    files = (file for path in paths for file in path.rglob("*") if file.suffix in {".sql", ".py"})
    models = {file.stem for file in files}
    path = paths[0] / GENERATED / "exposures.yml"
    owners, disabled = _known_to_dbt(settings)
    recipes = _recipes(settings.root, models - disabled)
    champions = _champions(settings, recipes) if ask_registry else _told_before(path)
    exposures: dict[str, dict[str, object]] = {}
    for recipe in recipes:
        for exposure in _exposures(recipe, owners.get(recipe.spine, ""), champions):
            exposures.setdefault(str(exposure["name"]), exposure)
    try:
        _write(path, list(exposures.values()))
    except OSError as err:
        # They are for reading only: a project on a read-only disk is trained all the same.
        console.warn(f"{path}: not written ({err.strerror}); dbt's docs lack recipes and endpoints")


def _recipes(root: Path, models: set[str]) -> list[Recipe]:
    found = []
    for path in all_recipes(root):
        with suppress(RunnerError):  # `runner check` tells what is wrong with it
            recipe = load_recipe(path)
            if {recipe.spine, *_views(recipe)} <= models:
                found.append(recipe)
    return found


def _views(recipe: Recipe) -> list[str]:
    return sorted({reference.partition(":")[0] for reference in recipe.features})


def _exposures(
    recipe: Recipe, owner: str, champions: Mapping[str, Mapping[str, object]]
) -> list[dict[str, object]]:
    """Return the exposures of the ML model and of its endpoint."""
    name = re.sub(r"\W", "_", recipe.name)
    marts = [f"ref('{view}')" for view in _views(recipe)]
    champion = dict(champions.get(recipe.registered_model_name, {}))
    about = {"recipe": f"recipes/{recipe.path.name}", **champion}
    named = re.search(rf"\b{re.escape(recipe.label)}\b", recipe.description)
    predicts = "" if named else f"Predicts {recipe.label}."
    common = {"owner": {"name": owner or "unknown", **({"email": owner} if "@" in owner else {})}}
    return [
        {
            "name": f"recipe_{name}",
            "label": recipe.registered_model_name,
            "type": "ml",
            "description": f"{recipe.description} {predicts}".strip(),
            **common,
            "depends_on": [f"ref('{recipe.spine}')", *marts],
            "config": {"meta": about},
        },
        {
            "name": f"endpoint_{name}",
            "label": f"POST /predict: {recipe.registered_model_name}",
            "type": "application",
            "description": f"Answers with the champion, by `runner serve {about['recipe']}`.",
            **common,
            "depends_on": marts,
            "config": {"meta": about},
        },
    ]


def _champions(settings: Settings, recipes: list[Recipe]) -> dict[str, dict[str, object]]:
    """Return registered model → what to tell of its champion; none where there is no registry."""
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


def _told_before(path: Path) -> dict[str, dict[str, object]]:
    """Return what the file that is there tells of champions."""
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))["exposures"]
        return {
            exposure["label"]: {
                key: value for key, value in exposure["config"]["meta"].items() if key in _CHAMPION
            }
            for exposure in before
            if exposure["type"] == "ml"
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}  # there is none, or somebody edited it: it is written anew


def _known_to_dbt(settings: Settings) -> tuple[dict[str, str], frozenset[str]]:
    """Return spine → owner, and what is disabled, as far as dbt has read the project."""
    with suppress(RunnerError):
        manifest = load_manifest(settings.manifest_path)
        return {name: spine.owner for name, spine in manifest.spines.items()}, manifest.disabled
    return {}, frozenset()


def _model_paths(root: Path) -> list[Path]:
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
    return [root / folder for folder in folders]


def _write(path: Path, exposures: list[dict[str, object]]) -> None:
    """Replace the file at once, if it changes: dbt may be reading it."""
    plain = json.loads(json.dumps({"exposures": exposures}))  # nothing shared: no YAML anchors
    text = _HEADER + yaml.safe_dump(plain, sort_keys=False, width=100)
    text = re.sub("[{](?=[{%#])", "{ ", text)  # what dbt would take for Jinja
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    new = path.with_name(f"exposures.{os.getpid()}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
