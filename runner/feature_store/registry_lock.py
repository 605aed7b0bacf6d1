"""One writer at a time of Feast's registry, which itself looks first and writes then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from feast.repo_config import RegistryConfig
from sqlalchemy import NullPool, create_engine, text

from runner.errors import RunnerError

# Any number that no other use of PostgreSQL's advisory locks has.
_LOCK = 0x72756E6E6572  # "runner"
_STORE = "runner.feature_store.bucket_registry.GenerationRegistryStore"
_TRIES = 20
_SECONDS = 1.0  # the longest pause between two tries
_Made = TypeVar("_Made")


def one_writer(registry: RegistryConfig, write: Callable[[], _Made]) -> _Made:
    """Return `write()`, which reads and writes `registry`, as if no other runner did at that time.

    A registry in PostgreSQL is locked. One in Google Cloud Storage is written only over what was
    read (`guard_bucket`): where another was quicker, `write` is called again. Others have no guard.

    Raises
    ------
    RunnerError
        If others were quicker each time.
    """
    if not is_in_bucket(registry):
        with _postgres_lock(registry):
            return write()
    from runner.feature_store.bucket_registry import RegistryChangedError

    for attempt in range(_TRIES):
        if attempt:
            time.sleep(random.uniform(0, _SECONDS))  # noqa: S311 - not a secret
        with suppress(RegistryChangedError):
            return write()
    raise RunnerError(
        f"{registry.path}: other runners keep writing Feast's registry",
        hint="run the same command again",
    )


def guard_bucket(registry: RegistryConfig) -> None:
    """Have Feast write a registry in Google Cloud Storage only over what it has read."""
    if is_in_bucket(registry) and registry.registry_store_type is None:
        registry.registry_store_type = _STORE


def is_in_bucket(registry: RegistryConfig) -> bool:
    """Return whether the registry is an object of Google Cloud Storage."""
    return bool(registry.registry_type == "file" and registry.path.startswith("gs://"))


@contextmanager
def _postgres_lock(registry: RegistryConfig) -> Iterator[None]:
    """Keep every other runner from writing a registry in PostgreSQL while the context lasts.

    The lock is a transaction's, so that a pooler keeps it, and ends with its process.
    """
    if registry.registry_type != "sql" or not registry.path.startswith("postgresql"):
        yield
        return
    engine = create_engine(registry.path, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield
