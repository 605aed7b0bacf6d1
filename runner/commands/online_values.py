"""`runner materialize`, `runner audit` and `runner online get`: the online store's values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner import console
from runner.feature_store.selection import select_marts
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from runner.servers.local_servers import require_servers
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.online.audit import FeatureAudit
    from runner.online.materialize import ViewReport
    from runner.online.reader import OnlineAnswer


def materialize(settings: Settings, chosen: Sequence[str], *, full: bool) -> list[ViewReport]:
    """Copy the newest values of the chosen feature marts to Redis; return what was done per view.

    Parameters
    ----------
    chosen
        Names of feature marts and paths of recipes; empty: all that are online.
    """
    from runner.online.materialize import materialize as copy_marts

    require_servers(settings)
    marts = select_marts(settings, chosen)
    with console.bar("materialize", None) as bar:
        return copy_marts(
            settings,
            marts,
            full=full,
            progress=lambda _view, rows: bar.advance(rows),
            note=console.note,
        )


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
