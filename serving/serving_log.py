"""The serving log: each answered row is written to a Redis Stream, after its answer.

A prediction neither waits for the log nor fails because of it. Rows are encoded as soon as their
answers have been sent: to keep them longer costs more, in memory and garbage collections, than to
encode them. What was encoded within 50 ms is written as one entry, on a connection of its own.
A row is recorded once Redis has confirmed it. One that Redis refuses, or does not confirm in time,
is dropped and counted, never sent again.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterable, Sequence

from contract.log_format import LogEntry
from contract.redis_address import RedisAddress
from contract.serving_settings import LogSettings
from serving.admission import Asked, ScoredRow
from serving.features.online_client import OnlineStoreClient
from serving.loaded import Loaded
from serving.logs import log
from serving.metrics import Metrics
from serving.served_stream import ServedStream

_GATHER_SECONDS = 0.05
_ENTRY_ROWS = 128
"""When this many rows wait, they are written immediately."""
_WAITING_ROWS = 10_000
_TIMEOUT = 1.0
_LOOK_SECONDS = 1.0


class ServingLog:
    """Writes answered rows to the stream of the model's Feast project."""

    def __init__(self, address: RedisAddress, metrics: Metrics, settings: LogSettings) -> None:
        self._client = OnlineStoreClient(address, _TIMEOUT, "serving log")
        self._metrics = metrics
        self._settings = settings
        self._server = secrets.token_hex(8)
        self._numbered = 0
        self._rows = 0  # that wait or are on their way
        self._sending: set[asyncio.Task[None]] = set()
        self._streams: list[ServedStream] = []  # of the champion, and of a shadow
        self._refusal = ""

    def start(self) -> None:
        """Begin to connect."""
        self._client.begin()

    async def stop(self) -> None:
        """Write what waits, wait until it is confirmed, and close the connection."""
        for stream in self._streams:
            self._write(stream)
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
        """Have the rows of these requests written; their answers have been sent.

        Parameters
        ----------
        now
            When their features were read, in Unix seconds.
        is_shadow
            Whether nobody has been given the answers.
        """
        stream = self._stream(loaded, is_shadow)
        for asked in answered:
            for start in range(0, len(asked.scored), _ENTRY_ROWS):
                self._add(stream, now, asked, asked.scored[start : start + _ENTRY_ROWS])
        stream.encode()
        if stream.rows and stream.timer is None:
            loop = asyncio.get_running_loop()
            stream.timer = loop.call_later(_GATHER_SECONDS, self._write, stream)

    def _add(
        self, stream: ServedStream, now: float, asked: Asked, scored: Sequence[ScoredRow]
    ) -> None:
        if self._rows + len(scored) > _WAITING_ROWS:
            self._metrics.logged_rows["dropped"] += len(scored)
            return
        self._rows += len(scored)
        stream.add(now, asked, scored)
        if stream.rows >= _ENTRY_ROWS:
            self._write(stream)

    def _write(self, stream: ServedStream) -> None:
        """Send the rows that wait as one entry."""
        rows, answers = stream.take()
        if not rows:
            return
        loaded = stream.loaded
        entry = LogEntry(
            self._server,
            self._numbered + 1,
            loaded.bundle.digest,
            loaded.version.version,
            self._settings.share,
            is_shadow=stream.is_shadow,
        )
        self._numbered += rows
        sending = self._send(stream, entry.dump(answers), rows)
        task = asyncio.get_running_loop().create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _stream(self, loaded: Loaded, is_shadow: bool) -> ServedStream:
        for known in self._streams:
            if known.loaded is loaded:
                return known
        for former in self._streams[:-1]:
            self._write(former)
        stream = ServedStream(loaded, self._settings.max_bytes, is_shadow)
        self._streams = [*self._streams[-1:], stream]
        return stream

    async def _send(self, stream: ServedStream, entry: bytes, rows: int) -> None:
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
