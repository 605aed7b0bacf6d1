"""Reads the rows of a batch of requests: keys checked, features fetched and decoded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import getitem
from typing import Any

from contract.serving_errors import InvalidOnlineValueError
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

_WantedRow = tuple[Asked, int, list[int], dict[int, Any] | None, Sequence[FeatureValue]]
"""One row of a request: its position there, which replies are its own, what overrides them, and
its request inputs."""


class RowReader:
    """Reads rows from the online store, those of a batch together."""

    def __init__(self, online: OnlineStoreClient, metrics: Metrics) -> None:
        self._online = online
        self._metrics = metrics

    async def read(self, loaded: Loaded, batch: list[Asked]) -> tuple[float, list[ReadRow]]:
        """Return when the features were read, in Unix seconds, and the rows to score.

        A row that cannot be read is answered with its error.
        """
        lookup, wanted = self._look_up(loaded, batch)
        replies = await self._ask(lookup.commands())
        now = time.time()
        return now, self._decode(loaded, wanted, lookup.by_group(replies), now)

    def _look_up(self, loaded: Loaded, batch: list[Asked]) -> tuple[Lookup, list[_WantedRow]]:
        """Return what to read, and the rows that can be understood; the others are refused."""
        lookup, wanted = loaded.online.lookup(), []
        encode, inputs_of = loaded.online.keys.encode, loaded.request.read
        has_inputs = bool(loaded.request)
        for asked in batch:
            given = asked.request.feature_overrides or itertools.repeat(None)
            rows_given = zip(asked.request.entity_rows, given, strict=False)
            for position, (entity_row, values) in enumerate(rows_given):
                try:
                    keys = encode(entity_row)
                    overrides = None if values is None else loaded.overrides.read(values)
                    inputs = inputs_of(entity_row) if has_inputs else ()
                except (InvalidEntityRowError, InvalidFeatureOverrideError) as err:
                    refuse_row(self._metrics, asked, position, err)
                else:
                    wanted.append((asked, position, lookup.add(keys), overrides, inputs))
        return lookup, wanted

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
    ) -> list[ReadRow]:
        """Return the features of every row whose values can be read; the others are refused."""
        compute = loaded.computation.row if loaded.computation else None
        asked_at = datetime.fromtimestamp(now, UTC)
        wanted = _still_wanted(wanted, replies)
        found = loaded.online.rows(replies, [places for _, _, places, _, _ in wanted], now)
        rows = []
        for (asked, position, _, overrides, inputs), row in zip(wanted, found, strict=True):
            if asked.future.done():  # one of its rows has failed it as a whole
                continue
            if isinstance(row, InvalidOnlineValueError):
                refuse_row(self._metrics, asked, position, row)
                continue
            used = overridden(row, overrides) if overrides else row
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
        return rows


def _still_wanted(wanted: list[_WantedRow], replies: GroupReplies) -> list[_WantedRow]:
    """Return the rows whose requests can be answered; a lost reply fails its whole request."""
    if any(isinstance(reply, Exception) for own in replies for reply in own):
        for asked, _, places, _, _ in wanted:
            for reply in map(getitem, replies, places):
                if isinstance(reply, Exception):
                    asked.fail(reply)
    # Others have failed as a whole, or their clients have gone.
    return [one for one in wanted if not one[0].future.done()]
