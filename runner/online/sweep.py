"""Remove from the online store the entities and features that a feature mart no longer has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from contract.feast_format import field_hash
from runner.online.connection import OnlineConnection, pack
from runner.online.redis_encoding import stored_time
from runner.online.state import Lease
from runner.online.writer import ViewWriter
from runner.warehouse.mart_snapshot import MartSnapshot

_BATCH_KEYS = 5_000


def sweep(
    connection: OnlineConnection, snapshot: MartSnapshot, as_of: datetime, writer: ViewWriter
) -> int:
    """Remove the view's fields from every entity without a valid row; return how many there were.

    Other views' fields in the same hash stay; Redis drops a hash with its last field. A value
    newer than `as_of` stays too: its row may be one that this snapshot cannot see yet.
    """
    removed = 0
    for stored in _stored(connection, writer, as_of, snapshot.keys_at_once):
        alive = snapshot.existing(as_of, [entity.values for entity in stored])
        gone = [entity for n, entity in enumerate(stored, start=1) if n not in alive]
        commands = [writer.remove_command(entity.key, entity.seen) for entity in gone]
        replies = connection.ask(commands, [entity.key for entity in gone])
        removed += sum(map(writer.check, replies))
    return removed


def drop_features(
    connection: OnlineConnection, lease: Lease, writer: ViewWriter, view: str, names: Sequence[str]
) -> None:
    """Remove features from every entity of the view, of whatever time.

    The view's time goes on for the others: whoever still reads these would take them for fresh.
    """
    fields = [field_hash(view, name) for name in names]
    for found in connection.scan(writer.keys.prefix, _BATCH_KEYS):
        lease.renew()
        keys = [key for key in found if writer.keys.decode(key) is not None]  # not other projects'
        connection.ask([pack(b"HDEL", key, *fields) for key in keys], keys)


class _Stored(NamedTuple):
    """An entity in the store: its key, its join key values, its time as stored."""

    key: bytes
    values: tuple[int | str, ...]
    seen: bytes


def _stored(
    connection: OnlineConnection, writer: ViewWriter, as_of: datetime, size: int
) -> Iterator[list[_Stored]]:
    """Return the view's entities of `as_of` or before, about `size` at a time."""
    waiting: list[_Stored] = []
    for keys in connection.scan(writer.keys.prefix, _BATCH_KEYS):
        times = connection.ask([writer.time_command(key) for key in keys], keys)
        waiting += [
            _Stored(key, values, seen)
            for key, seen in zip(keys, times, strict=True)
            if seen is not None
            and stored_time(seen) <= as_of.timestamp()
            and (values := writer.keys.decode(key)) is not None
        ]
        if len(waiting) >= size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
