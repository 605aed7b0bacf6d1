"""Feast's Redis online store with the address taken from `REDIS_URL`."""

from __future__ import annotations

import os
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from pydantic import model_validator

_DEFAULT_PORT = 6379


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
        return {**values, "connection_string": feast_connection_string(os.environ["REDIS_URL"])}


class EnvRedisOnlineStore(RedisOnlineStore):  # type: ignore[misc]  # Feast is untyped
    """Feast's Redis online store, unchanged: the same keys and values, byte for byte."""


def feast_connection_string(url: str) -> str:
    """Return Feast's notation, `host:port,db=1,password=…,ssl=true`, for a Redis URL.

    Raises
    ------
    ValueError
        If the URL is of another kind, or holds a value that Feast's notation cannot carry.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("REDIS_URL must look like redis://:password@host:port/0 (or rediss://)")
    options: dict[str, str] = {}
    database = parts.path.strip("/")
    if database not in {"", "0"}:  # the default; redis-py refuses to be told it for a cluster
        options["db"] = database
    if parts.username:
        options["username"] = _as_text(unquote(parts.username))
    if parts.password:
        options["password"] = _as_text(unquote(parts.password))
    if parts.scheme == "rediss":
        options["ssl"] = "true"
    options |= dict(parse_qsl(parts.query))
    if any("," in value for value in options.values()):
        raise ValueError("Feast cannot take a comma in REDIS_URL's password or options")
    settings = [f"{name}={value}" for name, value in options.items()]
    return ",".join([f"{parts.hostname}:{parts.port or _DEFAULT_PORT}", *settings])


def _as_text(value: str) -> str:
    """Return `value` such that Feast, which reads values as JSON first, gets a text back."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
