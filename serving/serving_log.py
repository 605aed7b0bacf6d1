"""The serving log: each answered row is written to a Redis Stream, after its answer.

A prediction neither waits for the log nor fails because of it. Rows of answers that are already
on their way are gathered for 50 ms and written as one entry, on a connection of their own. A row
is recorded once Redis has confirmed it. One that Redis refuses, or does not confirm in time, is
dropped and counted, never sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import hiredis

from contract.log_format import (
    FIELD,
    STATUS_LETTERS,
    LogEntry,
    LoggedAnswer,
    LoggedRow,
    LogSchema,
    schemas_key,
    stream_key,
)
from contract.redis_address import RedisAddress
from contract.serving_settings import LogSettings
from serving.admission import Asked, ScoredRow
from serving.features.online_client import OnlineStoreClient, hash_slot
from serving.loaded import Loaded
from serving.logs import log
from serving.metrics import Metrics

_GATHER_SECONDS = 0.05
_ENTRY_ROWS = 128
"""Encoding as many takes 0.4 ms; requests that came meanwhile go first."""
_WAITING_ROWS = 10_000
_TIMEOUT = 1.0
_LOOK_SECONDS = 1.0
_LET_GO = 0.9


class _Answered(NamedTuple):
    """Rows of one request that are to be logged."""

    loaded: Loaded
    now: float
    asked: Asked
    scored: Sequence[ScoredRow]
    is_shadow: bool


class ServingLog:
    """Writes answered rows to the stream of the model's Feast project."""

    def __init__(self, address: RedisAddress, metrics: Metrics, settings: LogSettings) -> None:
        self._client = OnlineStoreClient(address, _TIMEOUT, "serving log")
        self._metrics = metrics
        self._settings = settings
        self._server = secrets.token_hex(8)
        self._numbered = 0
        self._waiting: deque[_Answered] = deque()
        self._rows = 0  # that wait or are on their way
        self._timer: asyncio.Handle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._streams: list[_Stream] = []  # of the champion, and of a shadow
        self._refusal = ""

    def start(self) -> None:
        """Begin to connect."""
        self._client.begin()

    async def stop(self) -> None:
        """Write what waits, wait until it is confirmed, and close the connection."""
        while self._waiting:
            self._write()
        if self._sending:
            await asyncio.wait(self._sending)
        await self._client.stop()

    def sample(self, answered: Sequence[Asked]) -> Sequence[Asked]:
        """Return those of the requests that are logged."""
        share = self._settings.share
        if share >= 1:
            return answered
        return [asked for asked in answered if random.random() < share]  # noqa: S311

    def note(
        self, loaded: Loaded, now: float, answered: Iterable[Asked], *, is_shadow: bool = False
    ) -> None:
        """Have the rows of these requests written, once their answers are on their way.

        Parameters
        ----------
        now
            When their features were read, in Unix seconds.
        is_shadow
            Whether nobody has been given the answers.
        """
        for asked in answered:
            rows = len(asked.scored)
            if not rows:
                continue
            if self._rows + rows > _WAITING_ROWS:
                self._metrics.logged_rows["dropped"] += rows
                continue
            self._rows += rows
            self._waiting.append(_Answered(loaded, now, asked, asked.scored, is_shadow))
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._write)

    def _write(self) -> None:
        """Send one entry; if more waits, the next in a later turn of the event loop."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()  # `stop` does not wait for it
            self._timer = None
        next_one = self._waiting[0]
        loaded, stream = next_one.loaded, self._stream(next_one.loaded)
        answers, rows = self._take(stream)
        first, self._numbered = self._numbered + 1, self._numbered + rows
        entry = LogEntry(
            self._server,
            first,
            loaded.bundle.digest,
            loaded.version.version,
            self._settings.share,
            answers,
            next_one.is_shadow,
        )
        task = loop.create_task(self._send(stream, entry.dump(), rows))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        if self._waiting:
            self._timer = loop.call_soon(self._write)

    def _stream(self, loaded: Loaded) -> _Stream:
        for known in self._streams:
            if known.loaded is loaded:
                return known
        stream = _Stream(loaded, self._settings.max_bytes)
        self._streams = [*self._streams[-1:], stream]
        return stream

    def _take(self, stream: _Stream) -> tuple[list[LoggedAnswer], int]:
        """Take as many rows of the stream's model as make an entry; the order stays."""
        answers: list[LoggedAnswer] = []
        rows = 0
        while self._waiting and rows < _ENTRY_ROWS and self._waiting[0].loaded is stream.loaded:
            answered = self._waiting.popleft()
            room = _ENTRY_ROWS - rows
            if len(answered.scored) > room:
                rest = answered._replace(scored=answered.scored[room:])
                self._waiting.appendleft(rest)
            chosen = stream.rows(answered.asked, islice(answered.scored, room))
            answers.append((answered.now, answered.asked.caller.request_id.decode(), chosen))
            rows += len(chosen)
        return answers, rows

    async def _send(self, stream: _Stream, entry: bytes, rows: int) -> None:
        now = asyncio.get_running_loop().time()
        look: list[bytes] = []
        if now >= stream.look_at:
            stream.look_at = now + _LOOK_SECONDS
            look = stream.look
        *seen, reply = await self._client.ask(stream.slot, [*look, stream.append(entry)])
        self._rows -= rows
        if isinstance(reply, Exception):
            self._drop(reply, rows)
            return
        self._refusal = ""
        self._metrics.logged_rows["recorded"] += rows
        if look:
            _, size, entries = seen
            stream.bound(size, entries, len(entry))

    def _drop(self, err: Exception, rows: int) -> None:
        self._metrics.logged_rows["dropped"] += rows
        reason = str(err)
        if reason != self._refusal:  # once, not at every write
            self._refusal = reason
            log("error", "serving log: rows are dropped", reason=reason)


class _Stream:
    """The stream that one model's rows go to, and how they are written there.

    Attributes
    ----------
    look
        Commands that are sent once a second: they write the schema, which may have been deleted,
        and ask how large the stream is.
    look_at
        When next, on the event loop's clock.
    """

    def __init__(self, loaded: Loaded, max_bytes: int) -> None:
        bundle = loaded.bundle
        self.loaded = loaded
        self.look_at = 0.0
        self._key = key = stream_key(bundle.feast_project)
        self.slot = hash_slot(key)
        schema = LogSchema.of(bundle, loaded.name, loaded.online.views)
        self.look = [
            _pack(b"HSET", schemas_key(bundle.feast_project), bundle.digest, schema.dump()),
            _pack(b"MEMORY", b"USAGE", key, b"SAMPLES", b"16"),
            _pack(b"XLEN", key),
        ]
        self._max_bytes = max_bytes
        self._max_entries: int | None = None
        self._keys: list[tuple[str, Callable[[Any], Any]]] = [
            (key.name, _hashed if key.pii else _as_it_is) for key in bundle.entity_keys
        ]
        self._columns = len(bundle.row)
        self._left_out = [at for at, column in enumerate(bundle.row) if column.pii]

    def append(self, entry: bytes) -> bytes:
        """Return the command that adds an entry, and removes the oldest where there is no room."""
        limit: tuple[bytes, ...] = ()
        if self._max_entries is not None:
            limit = (b"MAXLEN", b"~", b"%d" % self._max_entries)
        return _pack(b"XADD", self._key, *limit, b"*", FIELD, entry)

    def bound(self, size: object, entries: object, entry_bytes: int) -> None:
        """Bound the stream's length by what it takes of Redis's memory.

        Where Redis does not say how much that is, each entry counts like the latest.
        """
        if not isinstance(entries, int):
            return
        taken = size if isinstance(size, int) else entries * entry_bytes
        if taken > self._max_bytes:
            self._max_entries = max(1, entries * self._max_bytes // taken)
        elif taken < _LET_GO * self._max_bytes:
            self._max_entries = None

    def rows(self, asked: Asked, scored: Iterable[ScoredRow]) -> list[LoggedRow]:
        """Return what is logged of rows of one request."""
        given = asked.request.entity_rows
        logged: list[LoggedRow] = []
        for position, used, values, label, shares in scored:
            statuses = None
            if not used.is_complete:
                statuses = "".join([STATUS_LETTERS[status] for status in used.statuses])
            if len(values) > self._columns:
                values = values[: self._columns]  # what is computed follows from the rest
            if self._left_out:
                values = list(values)
                for at in self._left_out:
                    values[at] = None
            entity_row = given[position]
            keys = [change(entity_row[name]) for name, change in self._keys]
            # NumPy's float32, which orjson writes as 0.8; an array may lie the wrong way round.
            told = None if shares is None else list(shares)
            logged.append((position, keys, values, statuses, used.times, label, told))
        return logged


def _as_it_is(value: Any) -> Any:
    return value


def _hashed(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


def _pack(*parts: bytes | str) -> bytes:
    packed: bytes = hiredis.pack_command(parts)
    return packed
