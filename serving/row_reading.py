"""Reads the rows of a batch of requests: keys checked, features fetched and decoded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import getitem
from typing import Any, NamedTuple

from contract.serving_errors import InvalidOnlineValueError
from contract.tensors import Numbers
from contract.values import FeatureValue
from serving.admission import Asked
from serving.answers import ReadRow, refuse_row
from serving.features.lookup import Lookup
from serving.features.online_client import OnlineStoreClient
from serving.features.overrides import overridden
from serving.features.view_group import GroupReplies
from serving.http_errors import (
    InvalidEntityRowError,
    InvalidFeatureOverrideError,
    MissingEntityError,
)
from serving.loaded import Loaded
from serving.metrics import Metrics

_GivenRow = tuple[Asked, int, Any]
"""One row of a request: its position there, and what was sent for it."""
_Sent = tuple[Mapping[int, FeatureValue], Sequence[FeatureValue]]
"""A row's feature overrides and its request inputs."""
_PLAIN: _Sent = ({}, ())
_WantedRow = tuple[Asked, int, tuple[int, ...], Mapping[int, FeatureValue], Sequence[FeatureValue]]
"""One row of a request: its position there, which replies are its own, what overrides them, and
its request inputs."""


class RowsToScore(NamedTuple):
    """Rows that were read together.

    Attributes
    ----------
    read_at
        When, in Unix seconds.
    numbers
        All values that the model is handed, as one array; None: score what each row has.
    """

    read_at: float
    rows: list[ReadRow]
    numbers: Numbers | None


class RowReader:
    """Reads rows from the online store, those of a batch together."""

    def __init__(self, online: OnlineStoreClient, metrics: Metrics) -> None:
        self._online = online
        self._metrics = metrics

    async def read(self, loaded: Loaded, batch: list[Asked]) -> RowsToScore:
        """Return the rows to score; one that cannot be read is answered with its error."""
        lookup, wanted = self._look_up(loaded, batch)
        replies = await self._ask(lookup.commands())
        now = time.time()
        return self._decode(loaded, wanted, lookup.by_group(replies), now)

    def _look_up(self, loaded: Loaded, batch: list[Asked]) -> tuple[Lookup, list[_WantedRow]]:
        """Return what to read, and the rows that can be understood; the others are refused."""
        given = [
            (asked, position, entity_row)
            for asked in batch
            for position, entity_row in enumerate(asked.request.entity_rows)
        ]
        encode, lookup = loaded.online.keys.encode, loaded.online.lookup()
        try:
            encoded = encode([entity_row for _, _, entity_row in given])
        except InvalidEntityRowError:  # a strict request is to name its first wrong row
            given = [row for row in given if self._is_understood(loaded, row)]
            encoded = encode([entity_row for _, _, entity_row in given])
        is_plain = not loaded.request and not any(one.request.feature_overrides for one in batch)
        sent = itertools.repeat(_PLAIN) if is_plain else [self._sent(loaded, row) for row in given]
        rows = [
            (row, keys, own)
            for row, keys, own in zip(given, encoded, sent, strict=False)
            if own is not None
        ]
        places = lookup.add([keys for _, keys, _ in rows])
        return lookup, [
            (asked, position, own_places, *own)
            for ((asked, position, _), _, own), own_places in zip(rows, places, strict=True)
        ]

    def _is_understood(self, loaded: Loaded, row: _GivenRow) -> bool:
        """Return whether all that was sent for a row can be read; it is refused if not."""
        asked, position, entity_row = row
        try:
            loaded.online.keys.encode([entity_row])
        except InvalidEntityRowError as err:
            refuse_row(self._metrics, asked, position, err)
            return False
        return self._sent(loaded, row) is not None

    def _sent(self, loaded: Loaded, row: _GivenRow) -> _Sent | None:
        """Return a row's feature overrides and request inputs; None: it is refused."""
        asked, position, entity_row = row
        overrides = asked.request.feature_overrides
        try:
            read = loaded.overrides.read(overrides[position]) if overrides else {}
            return read, loaded.request.read(entity_row)
        except (InvalidEntityRowError, InvalidFeatureOverrideError) as err:
            refuse_row(self._metrics, asked, position, err)
            return None

    async def _ask(self, commands: Sequence[bytes]) -> list[Any]:
        if not commands:
            return []
        started = time.perf_counter()
        replies = await self._online.read(commands)
        if any(isinstance(reply, Exception) for reply in replies):
            self._metrics.redis_failures += 1
        else:
            self._metrics.redis.observe(time.perf_counter() - started)
        return replies

    def _decode(
        self, loaded: Loaded, wanted: list[_WantedRow], replies: GroupReplies, now: float
    ) -> RowsToScore:
        """Return the features of every row whose values can be read; the others are refused."""
        compute = loaded.computation.row if loaded.computation else None
        asked_at = datetime.fromtimestamp(now, UTC)
        wanted = _still_wanted(wanted, replies)
        found, numbers = loaded.online.rows(replies, [one[2] for one in wanted], now)
        if compute or loaded.request:
            numbers = None
        rows = []
        for (asked, position, _, overrides, inputs), row in zip(wanted, found, strict=True):
            if asked.future.done():  # one of its rows has failed it as a whole
                continue
            if isinstance(row, InvalidOnlineValueError):
                refuse_row(self._metrics, asked, position, row)
                continue
            used = row
            if overrides:
                used, numbers = overridden(row, overrides), None
            missing = () if used.is_complete else loaded.missing.of(used.values)
            if missing and loaded.missing.action(missing) == "error":
                self._metrics.recent.note(used)
                told = f"{' and '.join(missing)}: nothing is stored for these keys"
                refuse_row(self._metrics, asked, position, MissingEntityError(told))
                continue
            values = [*used.values, *inputs] if inputs else used.values
            if compute:
                values = compute(values, asked_at)
            rows.append((asked, position, row, used, values, missing))
        return RowsToScore(now, rows, numbers if len(rows) == len(found) else None)


def _still_wanted(wanted: list[_WantedRow], replies: GroupReplies) -> list[_WantedRow]:
    """Return the rows whose requests can be answered; a lost reply fails its whole request."""
    if any(isinstance(reply, Exception) for own in replies for reply in own):
        for asked, _, places, _, _ in wanted:
            for reply in map(getitem, replies, places):
                if isinstance(reply, Exception):
                    asked.fail(reply)
    # Others have failed as a whole, or their clients have gone.
    return [one for one in wanted if not one[0].future.done()]
