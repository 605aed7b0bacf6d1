"""`runner push`: feature values computed elsewhere, to the online store and the raw table."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from contract.event_format import pushed_name
from contract.push_rows import PushedRows
from runner import console
from runner.collecting.event_tables import with_key_ttl
from runner.commands.online.event_argument import declared_table
from runner.commands.online.event_file import next_events, read_events, right_rows
from runner.commands.served.event_collection import writing
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.online.ordered_write import write_in_order
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.open_collected import open_collected
from runner.warehouse.raw_rows import RawRows, raw_table

_ROWS = 1_000


@dataclass
class Pushed:
    """What `runner push` did.

    Attributes
    ----------
    known
        Rows that were pushed before, from the same file.
    older
        Rows that found a newer value in the online store, which stays.
    rejected
        The row of each that is wrong, from 1, and the reason.
    """

    name: str
    written: int = 0
    known: int = 0
    older: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows of the file have been read."""
        return self.written + self.known + len(self.rejected)


def push(settings: Settings, view: str, source: str) -> Pushed:
    """Write the rows of a file to the view's raw table, and then to the online store.

    Parameters
    ----------
    source
        A file, or `-` for stdin.
    """
    config = load_online_config(settings)
    declared = declared_table(settings, view, pushed_name, takes="rows pushed to")
    table = with_key_ttl(declared, config)
    pushed, made = PushedRows(table, config.project), RawRows(table)
    require_servers(settings)
    done = Pushed(view)
    with (
        connect(settings, config) as connection,
        open_collected(settings, raw_table(table), table.schema) as store,
        console.bar("push", None) as bar,
    ):
        events = read_events(table, source)
        while batch := next_events(events, _ROWS, done.rows):
            with writing(connection, config):  # a batch may take its producer hours
                now = datetime.now(UTC)
                rows = list(right_rows(batch, partial(pushed.read_at, now), done.rejected))
                if rows:
                    written = store.append(made.received(now, pushed.columns, rows))
                    done.written += written
                    done.known += len(rows) - written
                    done.older += write_in_order(connection, pushed.writes(rows))
            bar.advance(len(batch))
    return done
