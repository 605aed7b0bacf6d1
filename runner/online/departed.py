"""Views that left dbt: their values would stay in Redis as long as another view of their keys."""

from __future__ import annotations

from collections.abc import Callable

from contract.feast_format import field_hash, time_field
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.online.state import Lease, ViewState, holding, known_views
from runner.online.sweep import remove_fields
from runner.project.manifest import Manifest
from runner.settings import Settings


def remove_departed_views(
    settings: Settings, manifest: Manifest, note: Callable[[str], None]
) -> list[str]:
    """Remove from the online store the views that dbt deleted, renamed, disabled or took offline.

    Returns their names.

    A mart that breaks a rule is still in dbt, and its values stay; so do those of other projects.

    Parameters
    ----------
    note
        Called with a line per view removed.
    """
    config = load_online_config(settings)
    staying = {mart.name for mart in manifest.marts.values() if mart.online} | {*manifest.left_out}
    with connect(settings, config) as connection:
        gone = [v for v in known_views(connection, config.project) if v not in staying]
        for view in gone:
            with holding(Lease(connection, config.project, view), note) as lease:
                state = ViewState(connection, config.project, view)
                fields = [time_field(view), *(field_hash(view, name) for name in state.features)]
                removed = remove_fields(connection, lease, config.project, state, fields)
                state.forget()
            entities = "1 entity" if removed == 1 else f"{removed:,} entities"
            note(f"{view}: removed from {entities}; it is no longer online in dbt")
    return gone
