"""Feast's Redis online store with the address taken from `REDIS_URL`, and ordered writes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from feast import FeatureView
from feast.infra.online_stores.helpers import _redis_key
from feast.infra.online_stores.redis import (
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    RedisType,
    _versioned_fv_name,
)
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import NULL_TIMESTAMP_INT_VALUE
from feast.utils import make_tzaware
from pydantic import model_validator

from contract.feast_format import field_hash
from contract.push_rows import AHEAD, PushWrite
from contract.redis_address import RedisAddress
from contract.values import FLOAT32_MAX
from runner.online.connection import OnlineConnection
from runner.online.ordered_write import write_in_order
from runner.warehouse.pushed_frame import cannot_push

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""Entity key, feature → value, event timestamp, created timestamp."""
Progress = Callable[[int], object]
_ROWS = 1_000
_NUMBERS = ("double_val", "float_val")


class EnvRedisOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]  # Feast is untyped
    """Feast's Redis configuration; `connection_string` defaults to `REDIS_URL`."""

    type: Literal[
        "runner.online.online_store.EnvRedisOnlineStore",
        # Version 0.1 wrote this one.
        "runner.features.online.online_store.EnvRedisOnlineStore",
    ] = "runner.online.online_store.EnvRedisOnlineStore"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_environment(cls, values: Any) -> Any:
        if "connection_string" in values or "REDIS_URL" not in os.environ:
            return values
        return {**values, "connection_string": os.environ["REDIS_URL"]}


class EnvRedisOnlineStore(RedisOnlineStore):  # type: ignore[misc]  # Feast is untyped
    """Feast's Redis online store: the same keys and values, byte for byte.

    Writes are those of `runner push`: check and write are one step in Redis, a newer value stays,
    and of equal event timestamps the later write wins. Feast's `skip_dedup` has no effect.
    """

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[FeastRow],
        progress: Progress | None,
    ) -> None:
        """Write rows, each unless a newer one is there.

        Raises
        ------
        RunnerError
            If a client writes a row that cannot be pushed; then none is written.
        """
        if progress is None:  # a client; with a progress bar, Feast copies what the mart has
            _require_pushable(table.name, data)
        view = _versioned_fv_name(table, config)
        is_cluster = config.online_store.redis_type == RedisType.redis_cluster
        connection = OnlineConnection(self._get_client(config.online_store), is_cluster=is_cluster)
        try:
            for at in range(0, len(data), _ROWS):
                rows = data[at : at + _ROWS]
                write_in_order(connection, [_write(config, view, row) for row in rows])
                if progress is not None:
                    progress(len(rows))
        finally:
            connection.release()

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[FeastRow],
        progress: Progress | None,
    ) -> None:
        """Write rows as `online_write_batch`."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    @staticmethod
    def _parse_connection_string(
        connection_string: str,
    ) -> tuple[list[dict[str, str | int]], dict[str, Any]]:
        """Return the servers and the client's options; Feast's own notation is Feast's to read."""
        if "://" not in connection_string:
            parsed: tuple[list[dict[str, str | int]], dict[str, Any]]
            parsed = RedisOnlineStore._parse_connection_string(connection_string)
            return parsed
        address = RedisAddress.from_url(connection_string).resolved()
        return [{"host": address.host, "port": address.port}], address.client_options()


def _write(config: RepoConfig, view: str, row: FeastRow) -> PushWrite:
    entity_key, values, moment, _ = row
    key = _redis_key(config.project, entity_key, config.entity_key_serialization_version)
    features: list[bytes] = []
    for name, value in values.items():
        # Feast writes a time that is null as the earliest of all, and reads no value as null too.
        is_null = value.unix_timestamp_val == NULL_TIMESTAMP_INT_VALUE
        features += [field_hash(view, name), b"" if is_null else value.SerializeToString()]
    ttl = config.online_store.key_ttl_seconds
    return PushWrite.of(key, view, ttl, make_tzaware(moment), features)


def _require_pushable(view: str, rows: Iterable[FeastRow]) -> None:
    """Raise RunnerError if a row breaks a rule of pushed rows."""
    latest = datetime.now(UTC) + AHEAD
    for position, (entity_key, values, moment, _) in enumerate(rows):
        if fault := _fault(entity_key, values, moment, latest):
            raise cannot_push(view, position, fault)


def _fault(
    entity_key: EntityKey, values: Mapping[str, Value], moment: datetime, latest: datetime
) -> str:
    """Return what is wrong with a row; empty: nothing."""
    for name, value in zip(entity_key.join_keys, entity_key.entity_values, strict=True):
        if value.WhichOneof("val") is None:
            return f"{name} is null"
    if moment != moment:  # pandas has NaT, which differs from itself
        return "the event timestamp is null"
    if make_tzaware(moment) > latest:
        return "the event timestamp is more than a minute ahead of the clock"
    for name, value in values.items():
        kind = value.WhichOneof("val")
        if kind in _NUMBERS and not abs(getattr(value, kind)) <= FLOAT32_MAX:
            return f"{name} must be a number between -{FLOAT32_MAX:.3g} and {FLOAT32_MAX:.3g}"
    return ""
