"""Events on their way from a client to a raw table: who takes them, and how they wait in Redis.

The runner writes into a hash which dbt sources take events, and with which columns. A server checks
events against that, and appends those of a request as one entry to the table's own Redis Stream.
`runner collect` moves them to the warehouse; nothing else removes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

EVENTS_FIELD = b"events"
"""The one field of a stream's entry."""
RECEIVED_AT = "received_at"
"""The column of the instant at which an event was accepted."""
COLLECTED_AT = "collected_at"
"""The column of the instant at which it was written to the warehouse."""
PUSH_ID = "push_id"
"""The column that names a pushed row."""
_FORMAT = 1


def event_tables_key(project: str) -> bytes:
    """Return the hash of the tables that take events, by name, of a Feast project."""
    return b"runner:log:{%b}:events" % project.encode()


def event_stream_key(project: str, table: str) -> bytes:
    """Return the stream of a table's events. In a cluster all of a project have one hash slot."""
    return event_tables_key(project) + b":" + table.encode()


@dataclass(frozen=True)
class EventColumn:
    """A column that the dbt source declares.

    Attributes
    ----------
    dtype
        `int64`, `int32`, `int16`, `float64`, `float32`, `string`, `bool`, `timestamp`, `date`,
        `numeric` or `json`.
    required
        Whether the source tests that it is not null.
    length
        How many characters a text may have; None: any number.
    limit
        How large a number may be, without its sign; None: as large as its type.
    digits
        How many digits a number may have before and after the point, for `numeric`.
    """

    name: str
    dtype: str
    required: bool = False
    length: int | None = None
    digits: tuple[int, int] | None = None
    limit: float | None = None


@dataclass(frozen=True)
class PushedView:
    """A feature view whose values are pushed: what a pushed row is in the online store.

    Attributes
    ----------
    keys, features
        By join key and by feature: the dtype, in the order of the mart.
    timestamp
        The column of the event time.
    key_ttl_seconds
        How long Redis keeps a key after it was last written; None: for ever.
    """

    name: str
    keys: dict[str, str]
    features: dict[str, str]
    timestamp: str
    key_ttl_seconds: int | None = None


@dataclass(frozen=True)
class EventTable:
    """A dbt source that takes events, or rows that are pushed to a feature view.

    Attributes
    ----------
    schema, relation
        Where it is in the warehouse.
    id_column
        The column that names an event: of two with the same, the first counts.
    columns
        Those that the source declares, without `received_at` and `collected_at`.
    is_open
        Whether it takes more; if not, what waits is still collected.
    view
        The feature view that its rows are pushed to; None: it takes events.
    """

    name: str
    schema: str
    relation: str
    id_column: str
    columns: tuple[EventColumn, ...]
    is_open: bool = True
    view: PushedView | None = None

    def dump(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def parse(cls, content: bytes) -> EventTable | None:
        """Return what `dump` wrote; None: a later version wrote it."""
        try:
            return _TABLES.validate_json(content)
        except ValidationError:
            return None


_TABLES = TypeAdapter(EventTable)


def events_name(table: EventTable) -> str | None:
    """Return the name under which a table takes events; None: it takes pushed rows."""
    return table.name if table.view is None else None


def pushed_name(table: EventTable) -> str | None:
    """Return the feature view whose pushed rows a table takes; None: it takes events."""
    return None if table.view is None else table.view.name


@dataclass(frozen=True)
class EventEntry:
    """One entry of a stream: what one request brought.

    Attributes
    ----------
    received_at
        When, in Unix seconds.
    columns
        Names, in the order of each row's values; times are ISO 8601 in UTC.
    """

    received_at: float
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def dump(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps((_FORMAT, self.received_at, self.columns, self.rows))

    @classmethod
    def parse(cls, content: bytes) -> EventEntry | None:
        """Return what `dump` wrote; None: something else wrote it, or a later version."""
        try:
            number, *fields = orjson.loads(content)
            return cls(*fields) if number == _FORMAT else None
        except (TypeError, ValueError):
            return None
