"""Remove from the online store the entities and features that a feature mart no longer has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from contract.feast_format import field_hash
from runner.online.connection import OnlineConnection, pack
from runner.online.lease import Lease
from runner.online.redis_encoding import KeyFormat, is_entity_key, stored_time
from runner.online.state import ViewState, known_views
from runner.online.writer import ViewWriter
from runner.warehouse.mart_snapshot import MartSnapshot

_BATCH_KEYS = 5_000


def sweep(
    connection: OnlineConnection,
    snapshot: MartSnapshot,
    as_of: datetime,
    writer: ViewWriter,
    until: float,
) -> int:
    """Remove the view's fields from every entity without a valid row; return how many there were.

    Other views' fields in the same hash stay; Redis drops a hash with its last field. A value
    newer than `until`, in Unix seconds, stays too: its row may be one that this snapshot cannot see
    yet.
    """
    removed = 0
    for stored in _stored(connection, writer, until, snapshot.keys_at_once):
        alive = snapshot.existing(as_of, [entity.values for entity in stored])
        gone = [entity for n, entity in enumerate(stored, start=1) if n not in alive]
        commands = [writer.remove_command(entity.key, entity.seen) for entity in gone]
        replies = connection.ask(commands, [entity.key for entity in gone])
        removed += sum(map(writer.check, replies))
    return removed


def remove_fields(
    connection: OnlineConnection, lease: Lease, project: str, state: ViewState, fields: list[bytes]
) -> int:
    """Remove `fields` of a view from every entity, of whatever time; return from how many.

    Another view may have had the same 32-bit field. It is copied in full at its next run.
    """
    removed = 0
    for keys in _entity_keys(connection, project, state.join_keys):
        lease.renew()
        commands = [pack(b"HDEL", key, *fields) for key in keys]
        removed += sum(map(bool, connection.ask(commands, keys)))
    for name in known_views(connection, project):
        other = ViewState(connection, project, name)
        if name != state.view and any(field_hash(name, f) in fields for f in other.features):
            other.distrust()
    return removed


def _entity_keys(
    connection: OnlineConnection, project: str, join_keys: Mapping[str, str] | None
) -> Iterator[list[bytes]]:
    """Return the Redis keys of the project's entities with `join_keys`; None: with any."""
    if join_keys is None:
        for found in connection.scan(b"", _BATCH_KEYS):
            yield [key for key in found if is_entity_key(key, project)]
        return
    keys = KeyFormat(project, join_keys)
    for found in connection.scan(keys.prefix, _BATCH_KEYS):
        yield [key for key in found if keys.decode(key) is not None]  # not other projects'


class _Stored(NamedTuple):
    """An entity in the store: its key, its join key values, its time as stored."""

    key: bytes
    values: tuple[int | str, ...]
    seen: bytes


def _stored(
    connection: OnlineConnection, writer: ViewWriter, until: float, size: int
) -> Iterator[list[_Stored]]:
    """Return the view's entities of `until` or before, about `size` at a time."""
    waiting: list[_Stored] = []
    for keys in connection.scan(writer.keys.prefix, _BATCH_KEYS):
        times = connection.ask([writer.time_command(key) for key in keys], keys)
        waiting += [
            _Stored(key, values, seen)
            for key, seen in zip(keys, times, strict=True)
            if seen is not None
            and stored_time(seen) <= until
            and (values := writer.keys.decode(key)) is not None
        ]
        if len(waiting) >= size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
