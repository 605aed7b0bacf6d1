"""Whether the online store has what the champions ask it for; see `doctor.py`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from contract.bundle import Bundle
from contract.bundle_reader import read_bundle
from contract.model_registry import open_source
from contract.serving_errors import RegistryError, ServingError
from runner.errors import RunnerError
from runner.settings import Settings

HINT = "run `runner materialize`, after `dbt build` if what is in the marts has expired too"


def online_features(settings: Settings) -> str:
    """See that most features of each champion are stored and have not expired."""
    problems, served = look(settings)
    if problems:
        raise RunnerError("; ".join(problems), hint=HINT)
    return f"stored for {', '.join(served)}" if served else "no champion yet"


def problems_at_hand(settings: Settings) -> list[str]:
    """Return what is wrong, for a command that is about something else: it neither fails nor waits.

    A tracking server is not asked.
    """
    if not settings.env["MLFLOW_TRACKING_URI"].startswith("sqlite:///"):
        return []
    from redis.exceptions import RedisError

    try:
        return look(settings)[0]
    except (RunnerError, ServingError, RedisError):
        return []


def look(settings: Settings) -> tuple[list[str], list[str]]:
    """Return what is wrong with the champions' features, and the champions."""
    from runner.online.connection import connect
    from runner.online.online_config import load_online_config
    from runner.online.stored_features import changed_online, stored_features

    champions = list(_champions(settings))
    if not champions:
        return [], []
    problems = []
    now = datetime.now(UTC)
    with connect(settings, load_online_config(settings)) as connection:
        for name, bundle in champions:
            if changed := changed_online(connection, bundle):
                problems.append(f"{name} was trained on other features: {', '.join(changed)}")
            if problem := stored_features(connection, bundle, now).problem:
                problems.append(f"{name}: {problem}")
    return problems, [name for name, _ in champions]


def _champions(settings: Settings) -> Iterator[tuple[str, Bundle]]:
    """Yield the champions of the project's recipes, and their bundles; MLflow is not imported."""
    from runner.recipes.recipe import load_recipe
    from runner.recipes.recipe_files import all_recipes

    uri = settings.mlflow_tracking_uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return
    recipes = (load_recipe(path) for path in all_recipes(settings.root))
    for name in sorted({recipe.registered_model_name for recipe in recipes}):
        source = open_source(f"models:/{name}@champion", uri, settings.env)
        try:
            version = source.resolve()
        except RegistryError:  # it has none
            continue
        with source.bundle(version) as folder:
            yield f"{name} version {version.version}", read_bundle(folder, version.bundle_sha256)
