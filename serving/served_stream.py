"""The stream of the serving log that one model's rows go to, and what is written of a row."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import hiredis

from contract.log_format import (
    FIELD,
    STATUS_LETTERS,
    LoggedAnswer,
    LoggedRow,
    LogSchema,
    encode_answers,
    schemas_key,
    stream_key,
)
from serving.admission import Asked, ScoredRow
from serving.features.online_client import hash_slot
from serving.loaded import Loaded

_LET_GO = 0.9


class ServedStream:
    """The stream that one model's rows go to, and how they are written there.

    Attributes
    ----------
    look
        Commands that are sent once a second: they write the schema, which may have been deleted,
        and ask how large the stream is.
    look_at
        When next, on the event loop's clock.
    rows
        How many wait for the next entry.
    timer
        Of the next entry.
    """

    def __init__(self, loaded: Loaded, max_bytes: int, is_shadow: bool) -> None:
        bundle = loaded.bundle
        self.loaded = loaded
        self.is_shadow = is_shadow
        self.look_at = 0.0
        self.rows = 0
        self.timer: asyncio.TimerHandle | None = None
        self._answers: list[LoggedAnswer] = []
        self._encoded: list[bytes] = []
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
        self._keys = [key.name for key in bundle.entity_keys]
        self._hashed = [at for at, key in enumerate(bundle.entity_keys) if key.pii]
        self._left_out = [at for at, column in enumerate(bundle.row) if column.pii]
        self._columns = len(bundle.row)

    def add(self, now: float, asked: Asked, scored: Sequence[ScoredRow]) -> None:
        """Queue the rows of one request for the next entry."""
        self.rows += len(scored)
        self._answers.append((now, asked.caller.request_id.decode(), self._logged(asked, scored)))

    def encode(self) -> None:
        """Keep only the bytes of what was added."""
        answers, self._answers = self._answers, []
        if answers:
            self._encoded.append(encode_answers(answers))

    def take(self) -> tuple[int, list[bytes]]:
        """Return how many rows waited, and their encoded answers."""
        self.encode()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        taken = self.rows, self._encoded
        self.rows, self._encoded = 0, []
        return taken

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

    def _logged(self, asked: Asked, scored: Iterable[ScoredRow]) -> list[LoggedRow]:
        """Return what is logged of rows of one request."""
        given = asked.request.entity_rows
        logged: list[LoggedRow] = []
        for position, used, values, label, shares in scored:
            statuses = None if used.is_complete else _letters(tuple(used.statuses))
            entity_row = given[position]
            keys = [entity_row[name] for name in self._keys]
            if len(values) > self._columns:
                values = values[: self._columns]  # what is computed follows from the rest
            logged.append((position, keys, values, statuses, used.times, label, shares))
        if self._hashed or self._left_out:
            logged = [self._without_personal(row) for row in logged]
        return logged

    def _without_personal(self, row: LoggedRow) -> LoggedRow:
        """Return the row with keys marked `pii` as digests and values marked `pii` as null."""
        position, given_keys, given_values, *others = row
        keys, values = list(given_keys), list(given_values)
        for at in self._hashed:
            keys[at] = hashlib.sha256(str(keys[at]).encode()).hexdigest()
        for at in self._left_out:
            values[at] = None
        return (position, keys, values, *others)


@lru_cache(maxsize=1024)  # rows that lack something often lack the same
def _letters(statuses: tuple[str, ...]) -> str:
    return "".join([STATUS_LETTERS[status] for status in statuses])


def _pack(*parts: bytes | str) -> bytes:
    packed: bytes = hiredis.pack_command(parts)
    return packed
