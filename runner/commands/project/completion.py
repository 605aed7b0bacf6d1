"""Names for the shell's completion; whatever cannot be read offers nothing, and says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer  # typer reads the annotations

if TYPE_CHECKING:
    from runner.settings import Settings


def recipes(incomplete: str) -> list[str]:
    """Return the recipes in `recipes/`."""
    found = sorted(str(path) for path in Path("recipes").glob("*.yaml"))
    return [name for name in found if name.startswith(incomplete)]


def views(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the feature views in dbt's manifest, as dbt last wrote it."""
    try:
        from runner.project.manifest import load_manifest

        found = sorted(load_manifest(_settings(ctx).manifest_path).marts)
    except Exception:  # a message in the middle of the command line would help nobody
        return []
    return [name for name in found if name.startswith(incomplete)]


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the recipes, and the names of the registered models."""
    return [*recipes(incomplete), *_registered(ctx, incomplete)]


def views_and_recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the feature views and the recipes."""
    return [*views(ctx, incomplete), *recipes(incomplete)]


def trained(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the registered versions, as NAME@ALIAS."""
    name, at, _ = incomplete.partition("@")
    if not at:
        return [f"{each}@champion" for each in _registered(ctx, name)]
    aliases = ("champion", "challenger")
    return [f"{name}@{each}" for each in aliases if f"{name}@{each}".startswith(incomplete)]


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the recipes and registered models, or the aliases of one."""
    return trained(ctx, incomplete) if "@" in incomplete else models(ctx, incomplete)


def _registered(ctx: typer.Context, incomplete: str) -> list[str]:
    try:
        settings = _settings(ctx)
        if not settings.mlflow_tracking_uri.startswith(("sqlite:///", "http://", "https://")):
            return []  # MLflow's own client would take seconds to import
        from runner.records.run_reader import open_reader

        names = open_reader(settings).models()
    except Exception:  # as above
        return []
    return [name for name in names if name.startswith(incomplete)]


def _settings(ctx: typer.Context) -> Settings:
    from runner.settings import read_settings

    return read_settings(ctx.params.get("target"))
