"""Arrow rows of one view to packed commands for the online store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from contract.feast_format import field_hash, time_field
from contract.online_write import LOST
from runner.online.connection import OnlineConnection, Pipeline, pack
from runner.online.guards import ScriptGuard, Tally, TransactionGuard, WriteGuard
from runner.online.lease import Lease
from runner.online.our_values import OurValues
from runner.online.redis_encoding import (
    KeyFormat,
    bulk,
    encode_times,
    encode_values,
    join_rows,
)
from runner.online.scripts import REMOVE
from runner.online.watermark import key_dtypes
from runner.project.manifest import FeatureMart
from runner.warehouse.mart_snapshot import CHANGED, EVENT_TIME


class ViewWriter:
    """Encodes the rows of one view and writes them behind a guard.

    Attributes
    ----------
    unchanged
        Rows that the store already had as they are.

    Parameters
    ----------
    ours
        The stored values that are overwritten although they are newer than the row.
    """

    def __init__(
        self,
        connection: OnlineConnection,
        mart: FeatureMart,
        *,
        project: str,
        key_ttl_seconds: int | None,
        lease: Lease,
        ours: OurValues,
    ) -> None:
        self.keys = KeyFormat(project, key_dtypes(mart))
        self.unchanged = 0
        self._time = time_field(mart.name)
        self._framed_time = bulk(self._time)
        self._ttl = key_ttl_seconds
        self._written = ours.written
        self._lease = lease
        hashes = [field_hash(mart.name, column.name) for column in mart.features]
        self._fields = [self._time, *hashes]
        self._features = [
            (column.name, column.dtype, bulk(hashed))
            for column, hashed in zip(mart.features, hashes, strict=True)
        ]
        self._pipeline = Pipeline(connection)
        self._guard: WriteGuard = (ScriptGuard if connection.is_cluster else TransactionGuard)(
            connection,
            mart.name,
            len(hashes),
            key_ttl_seconds=key_ttl_seconds,
            lease=lease,
            ours=ours,
        )
        script = connection.client.script_load(REMOVE).encode()
        self._lease_keys = [] if connection.is_cluster else [lease.key]
        self._remove = [b"EVALSHA", script, b"%d" % (1 + len(self._lease_keys))]

    @property
    def tally(self) -> Tally:
        """What became of the rows that were not unchanged."""
        return self._guard.tally

    def write(self, rows: pa.RecordBatch, *, is_fresh: bool) -> None:
        """Send `rows` on their way: all of them if `is_fresh`, else those that differ."""
        keys, times = self._encoded(rows)
        if is_fresh:
            self._write(rows, keys, times)
        else:
            looks = [self.time_command(key) for key in keys]
            self._pipeline.submit(looks, keys, partial(self._compare, rows, keys, times))
            if self._ttl is not None:
                seconds = b"%d" % self._ttl
                renew = [pack(b"EXPIRE", key, seconds) for key in keys]
                self._pipeline.submit(renew, keys, _ignore)
            self._pipeline.settle()
        self._guard.settle()

    def follow(self, rows: pa.RecordBatch) -> None:
        """Send `rows`, noting what is written: other entities are not looked at."""
        keys, times = self._encoded(rows)
        self._written.note(keys, times, self._ttl)
        self._write(rows, keys, times)
        self._guard.settle()

    def finish(self) -> None:
        """Wait until every row has arrived."""
        self._pipeline.settle(outstanding=0)
        self._guard.settle(finish=True)

    def remove_command(self, key: bytes, seen: bytes) -> bytes:
        """Return the command that removes the view's fields, if its time is still `seen`."""
        keys = [key, *self._lease_keys]
        arguments = [self._lease.token, self._time, seen]
        return pack(*self._remove, *keys, *arguments, *self._fields)

    def time_command(self, key: bytes) -> bytes:
        """Return the command that reads the stored time."""
        return b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n%b" % (len(key), key, self._framed_time)

    def check(self, reply: int) -> int:
        """Return a script's answer; raises RunnerError if the lease is lost."""
        if reply == LOST:
            raise self._lease.lost()
        return reply

    def _encoded(self, rows: pa.RecordBatch) -> tuple[Sequence[bytes], Sequence[bytes]]:
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        return self.keys.encode(columns, len(rows)), encode_times(rows.column(EVENT_TIME))

    def _compare(
        self,
        rows: pa.RecordBatch,
        keys: Sequence[bytes],
        times: Sequence[bytes],
        stored: list[Any],
    ) -> None:
        changed = rows.column(CHANGED).to_pylist()
        different = [
            position
            for position, (old, new) in enumerate(zip(stored, times, strict=True))
            if old != new or changed[position]
        ]
        self.unchanged += len(times) - len(different)
        if different:
            self._write(
                rows.take(pa.array(different, pa.int32())),
                [keys[position] for position in different],
                [times[position] for position in different],
            )

    def _write(self, rows: pa.RecordBatch, keys: Sequence[bytes], times: Sequence[bytes]) -> None:
        head, middle = self._guard.head, self._guard.middle
        columns = [
            [b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, middle) for key in keys],
            [b"$%d\r\n%b\r\n" % (len(moment), moment) for moment in times],
        ]
        columns += [
            encode_values(rows.column(name), dtype, bulked)
            for name, dtype, bulked in self._features
        ]
        self._guard.write(keys, times, join_rows(columns))


def _ignore(_replies: list[Any]) -> None:
    """Do nothing: whether a key was there to be renewed is seen from its time."""
