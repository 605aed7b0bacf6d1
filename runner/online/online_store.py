"""Feast's Redis online store with the address taken from `REDIS_URL`."""

from __future__ import annotations

import os
from typing import Any, Literal

from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from pydantic import model_validator

from contract.redis_address import RedisAddress


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
    """Feast's Redis online store: the same keys and values, byte for byte."""

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
