"""Which feature marts a command is about: named by view, by recipe, or all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.errors import CombinedError, RunnerError
from runner.project.manifest import FeatureMart, Manifest, load_manifest
from runner.settings import Settings
from runner.wording import did_you_mean


def select_marts(settings: Settings, chosen: Sequence[str]) -> list[FeatureMart]:
    """Return the feature marts that `chosen` names, each once, in the manifest's order.

    Parameters
    ----------
    chosen
        Names of feature marts and paths of recipes (`….yaml`); empty: every mart that is online,
        and there may be none.

    Raises
    ------
    RunnerError
        If there is no such mart, or it is wrong or not online.
    """
    manifest = load_manifest(settings.manifest_path)
    names: set[str] = set()
    for item in chosen:
        names |= _recipe_views(Path(item)) if item.endswith((".yaml", ".yml")) else {item}
    for name in sorted(names):
        if name in manifest.left_out:
            raise _wrong(manifest, [name])
        if name not in manifest.marts:
            known = ", ".join(sorted(manifest.marts)) or "none yet"
            raise RunnerError(
                f"no feature mart {name!r} in {manifest.path}{did_you_mean(name, manifest.marts)}",
                hint=f"feature marts: {known}; if it is new, run `dbt parse`",
            )
        if not manifest.marts[name].online:
            raise RunnerError(
                f"{manifest.marts[name].file}: {name} has `online: false`",
                hint="set meta.online to true and run `dbt parse` to copy it to the online store",
            )
    if not chosen:
        names = {mart.name for mart in manifest.marts.values() if mart.online}
    if not names and manifest.left_out:
        raise _wrong(manifest, manifest.left_out)
    return [mart for name, mart in manifest.marts.items() if name in names]


def require_none_left_out(settings: Settings) -> None:
    """Raise unless every feature mart of the project can be read, and so be chosen as one of all.

    Raises
    ------
    RunnerError
        What is wrong with the others.
    """
    manifest = load_manifest(settings.manifest_path)
    if manifest.left_out:
        raise _wrong(manifest, manifest.left_out)


def _wrong(manifest: Manifest, names: Sequence[str]) -> RunnerError:
    errors = [error for name in names for error in manifest.errors[name]]
    return CombinedError(errors, hint=f"{errors[0].hint}; then run `dbt build`")


def _recipe_views(path: Path) -> set[str]:
    from runner.recipes.recipe import load_recipe

    return set(load_recipe(path).feature_marts)
