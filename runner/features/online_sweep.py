"""Remove from the online store the entities that a feature mart no longer has."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from runner.features.newest_rows import existing_sql
from runner.features.online_connection import OnlineConnection
from runner.features.online_writer import ViewWriter
from runner.features.warehouse import Source, Warehouse
from serving.values import decode_timestamp

_BATCH_KEYS = 5_000


def sweep(
    connection: OnlineConnection,
    warehouse: Warehouse,
    source: Source,
    as_of: datetime,
    writer: ViewWriter,
) -> int:
    """Remove the view's fields from every entity without a valid row; return how many there were.

    Other views' fields in the same hash stay; Redis drops a hash with its last field. A value
    newer than `as_of` stays too: its row may be one that this snapshot cannot see yet.
    """
    removed = 0
    for keys in connection.scan(writer.keys.prefix, _BATCH_KEYS):
        stored = _stored(connection, writer, keys)
        gone = _without_row(warehouse, source, as_of, stored)
        commands = [writer.remove_command(entity.key, entity.seen) for entity in gone]
        replies = connection.ask(commands, [entity.key for entity in gone])
        removed += sum(map(writer.check, replies))
    return removed


class _Stored(NamedTuple):
    """An entity in the store: its key, its join key values, its time as stored."""

    key: bytes
    values: tuple[int | str, ...]
    seen: bytes


def _stored(connection: OnlineConnection, writer: ViewWriter, keys: list[bytes]) -> list[_Stored]:
    decoded = {key: values for key in keys if (values := writer.keys.decode(key)) is not None}
    times = connection.ask([writer.time_command(key) for key in decoded], list(decoded))
    return [
        _Stored(key, values, seen)
        for (key, values), seen in zip(decoded.items(), times, strict=True)
        if seen is not None
    ]


def _without_row(
    warehouse: Warehouse, source: Source, as_of: datetime, stored: list[_Stored]
) -> list[_Stored]:
    old = [entity for entity in stored if decode_timestamp(entity.seen) <= as_of.timestamp()]
    if not old:
        return []
    found = warehouse.table(existing_sql(source, as_of, [entity.values for entity in old]))
    alive = set(found["position"].to_pylist())
    return [entity for n, entity in enumerate(old, start=1) if n not in alive]
