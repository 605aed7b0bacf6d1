"""`runner materialize`, `runner audit` and `runner online get`: the online store's values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner import console
from runner.errors import RunnerError
from runner.feature_store.selection import require_none_left_out, select_marts
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from runner.servers.local_servers import require_servers
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.online.audit import FeatureAudit
    from runner.online.reader import OnlineAnswer
    from runner.online.view_report import ViewReport


def materialize(
    settings: Settings, chosen: Sequence[str], *, full: bool
) -> tuple[list[ViewReport], list[RunnerError]]:
    """Copy the newest values of the chosen feature marts to Redis.

    Returns what was done per view, and an error per view that could not be copied.

    Parameters
    ----------
    chosen
        Names of feature marts and paths of recipes; empty: all that are online, and views that are
        no longer online in dbt are removed.
    """
    from runner.online.departed import remove_departed_views
    from runner.online.materialize import materialize as copy_marts
    from runner.online.view_report import MaterializeError

    require_servers(settings)
    manifest = load_manifest(settings.manifest_path)
    removed = [] if chosen else remove_departed_views(settings, manifest, console.note)
    marts = select_marts(settings, chosen)
    if not marts and not removed:
        console.note(f"nothing to copy or remove: no feature mart in {manifest.path} is online")
    errors: list[RunnerError] = []
    with console.bar("materialize", None) as bar:
        try:
            reports = copy_marts(
                settings,
                marts,
                full=full,
                progress=lambda _view, rows: bar.advance(rows),
                note=console.note,
            )
        except MaterializeError as err:
            reports = list(err.reports)
            errors += err.errors
    if not chosen:
        try:
            require_none_left_out(settings)
        except RunnerError as err:
            errors.append(err)
    return reports, errors


def audit(settings: Settings, path: Path, entities: int) -> list[FeatureAudit]:
    """Compare Redis with the point-in-time join for the recipe's features; return each one's count.

    Parameters
    ----------
    entities
        How many to sample per view, from each of the two stores.
    """
    from runner.online.audit import audit as audit_recipe

    recipe, manifest = load_recipe(path), load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    require_servers(settings)
    with console.step(f"audit {recipe.name}"):
        return audit_recipe(settings, manifest, recipe, entities=entities)


def look_up(settings: Settings, view: str, entity: Sequence[str]) -> OnlineAnswer:
    """Return what Redis holds of one entity of a view.

    Parameters
    ----------
    entity
        Its join keys, each as `key=value`.
    """
    from runner.online.reader import get_online, parse_entity

    mart = select_marts(settings, [view])[0]
    keys = parse_entity(mart, entity)
    require_servers(settings, ["Redis"])
    return get_online(settings, mart, keys)
