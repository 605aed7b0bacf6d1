"""One writer at a time of Feast's registry, which itself looks first and writes then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from feast.repo_config import RegistryConfig
from sqlalchemy import NullPool, create_engine, text

# Any number that no other use of PostgreSQL's advisory locks has.
_LOCK = 0x72756E6E6572  # "runner"


@contextmanager
def registry_lock(registry: RegistryConfig) -> Iterator[None]:
    """Keep every other runner from writing `registry` while the context lasts.

    The lock is a transaction's, so that a pooler keeps it, and ends with its process. A registry
    that is not in PostgreSQL has none.
    """
    if registry.registry_type != "sql" or not registry.path.startswith("postgresql"):
        yield
        return
    engine = create_engine(registry.path, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield
