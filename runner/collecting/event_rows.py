"""Events that wait in Redis, as rows of their raw table."""

from __future__ import annotations

from datetime import UTC, datetime

from contract.event_format import EVENTS_FIELD, EventEntry, EventTable
from runner.collecting.log_stream import Entry
from runner.warehouse.collected_table import CollectedRow
from runner.warehouse.raw_rows import RawRows


class EventRows(RawRows):
    """Reads the entries of one table's stream.

    Attributes
    ----------
    foreign
        Entries that no server of this version wrote.
    """

    def __init__(self, table: EventTable) -> None:
        super().__init__(table)
        self.foreign = 0

    def rows(self, entry: Entry) -> list[CollectedRow]:
        """Return an entry's rows; no rows if it is not an entry of events.

        Raises
        ------
        RunnerError
            If its events have a column that the source no longer declares, or declares with
            another type. No event is lost.
        """
        parsed = EventEntry.parse(entry[1].get(EVENTS_FIELD, b""))
        if parsed is None:
            self.foreign += 1
            return []
        received_at = datetime.fromtimestamp(parsed.received_at, UTC)
        return self.received(received_at, parsed.columns, parsed.rows)

    def committed(self) -> None:
        """Do nothing: events have no numbers, because none is ever dropped."""
