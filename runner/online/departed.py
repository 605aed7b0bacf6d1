"""Views that left dbt: their values would stay in Redis as long as another view of their keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from contract.feast_format import field_hash, time_field
from runner.online.connection import connect
from runner.online.lease import Lease, holding
from runner.online.online_config import load_online_config
from runner.online.state import ViewState, known_views
from runner.online.sweep import remove_fields
from runner.project.manifest import Manifest
from runner.settings import Settings
from runner.wording import counted


def departed_views(manifest: Manifest, views: Iterable[str]) -> list[str]:
    """Return those of `views` that dbt deleted, renamed, disabled or took offline.

    A mart that breaks a rule is still in dbt.
    """
    staying = {mart.name for mart in manifest.marts.values() if mart.online} | {*manifest.left_out}
    return [view for view in views if view not in staying]


def remove_departed_views(
    settings: Settings,
    manifest: Manifest,
    needed: Collection[str],
    note: Callable[[str], None],
) -> tuple[list[str], list[str]]:
    """Remove departed views from the online store; those of other projects stay.

    Returns the names of those removed, and of those that stay because they are needed.

    Parameters
    ----------
    needed
        Views that served model versions read.
    note
        Called with a line per view removed.
    """
    config = load_online_config(settings)
    with connect(settings, config) as connection:
        departed = departed_views(manifest, known_views(connection, config.project))
        gone = [view for view in departed if view not in needed]
        for view in gone:
            with holding(Lease(connection, config.project, view), note) as lease:
                state = ViewState(connection, config.project, view)
                fields = [time_field(view), *(field_hash(view, name) for name in state.features)]
                removed = remove_fields(connection, lease, config.project, state, fields)
                state.forget()
            entities = counted(removed, "entity", "entities")
            note(f"{view}: removed from {entities}; it is no longer online in dbt")
    return gone, [view for view in departed if view in needed]
