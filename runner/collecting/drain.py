"""Drain a stream into a table: read, write in one transaction, and only then trim.

A process that dies anywhere in between leaves entries that are in the table already. The next one
reads them again, and the table takes a row only once, by its key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runner.collecting.log_stream import Entry, LogStream
from runner.warehouse.collected_table import CollectedRow, CollectedStore

_BYTES = 16 * 2**20
"""Size in Redis of a transaction's entries: their rows take several times as much memory."""


class EntryRows(Protocol):
    """What makes rows of a table of a stream's entries."""

    def rows(self, entry: Entry) -> list[CollectedRow]:
        """Return an entry's rows."""

    def committed(self) -> None:
        """Note that the rows of all entries so far are in the table."""


@dataclass
class Drained:
    """What was written, and what was there already."""

    written: int = 0
    known: int = 0


def drain(
    stream: LogStream, reader: EntryRows, store: CollectedStore, progress: Callable[[int], None]
) -> Drained:
    """Move what is in the stream now to the table.

    Parameters
    ----------
    progress
        Called with the number of rows of each transaction.
    """
    drained = Drained()
    until = stream.newest()
    last: bytes | None = None
    while until is not None:
        rows: list[CollectedRow] = []
        before, size = last, 0
        while (
            len(rows) < store.rows_at_once
            and size < _BYTES
            and (entries := stream.read(last, until))
        ):
            for entry in entries:
                rows += reader.rows(entry)
                size += sum(map(len, entry[1].values()))
            last = entries[-1][0]
        if last is None or last == before:
            break
        written = store.append(rows) if rows else 0
        reader.committed()
        stream.drop(last)
        drained.written += written
        drained.known += len(rows) - written
        progress(len(rows))
    return drained
