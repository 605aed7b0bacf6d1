"""The table that `runner ingest` and `runner push` are given: one that a dbt source declares."""

from __future__ import annotations

from collections.abc import Callable

from contract.event_format import EventTable
from runner.errors import RunnerError
from runner.project import dbt
from runner.project.event_sources import event_tables
from runner.settings import Settings
from runner.wording import did_you_mean

_DECLARE = "`runner help events` shows how to declare one"


def declared_table(
    settings: Settings, name: str, name_of: Callable[[EventTable], str | None], *, takes: str
) -> EventTable:
    """Return the declared table of that name; dbt reads the project first if it changed.

    Parameters
    ----------
    name_of
        Returns what a table is called here; None: it is not one of those that are asked for.
    takes
        What such a source does with the name, as an error says it.

    Raises
    ------
    RunnerError
        If there is none.
    """
    dbt.parsed(settings)
    named = {name_of(table): table for table in event_tables(settings.manifest_path)}
    tables = {known: table for known, table in named.items() if known is not None}
    if name not in tables:
        raise RunnerError(
            f"no dbt source takes {takes} {name!r}{did_you_mean(name, list(tables))}",
            hint=f"those that do: {', '.join(tables)}; {_DECLARE}" if tables else _DECLARE,
        )
    return tables[name]
