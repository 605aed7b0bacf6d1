"""The feature_store yaml's offline store, read without Feast, whose import takes seconds."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields

import yaml

from runner.settings import Settings

_OURS = ".postgres.offline_store.PointInTimePostgreSQLOfflineStore"


@dataclass(frozen=True)
class PostgresStoreConfig:
    """The keys of our PostgreSQL offline store that a session and the join go by.

    Those keys and their defaults are the same in `PointInTimePostgreSQLOfflineStoreConfig`.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    db_schema: str = "public"
    sslmode: str | None = "prefer"
    sslkey_path: str | None = None
    sslcert_path: str | None = None
    sslrootcert_path: str | None = None
    keepalives_idle: int | None = None
    knowledge_time: bool = True
    work_mem: str = "64MB"


def load_store_config(settings: Settings) -> PostgresStoreConfig | None:
    """Return the configuration as Feast would read it; None if the store is not our PostgreSQL's.

    Exports the connection variables first, as Feast needs them.
    """
    settings.export()
    if settings.target == "cloud" or not settings.feature_store_yaml.is_file():
        return None
    content = yaml.safe_load(os.path.expandvars(settings.feature_store_yaml.read_text()))
    stated = content.get("offline_store") if isinstance(content, dict) else None
    if not isinstance(stated, dict) or not str(stated.get("type")).endswith(_OURS):
        return None
    known = {each.name for each in fields(PostgresStoreConfig)}
    address = settings.postgres
    found: dict[str, object] = {
        "host": address.host,
        "port": address.port,
        "database": address.database,
        "user": address.user,
        "password": address.password,
    }
    if "PGSSLMODE" in settings.env:
        found["sslmode"] = settings.env["PGSSLMODE"]
    found |= {key: value for key, value in stated.items() if key in known}
    return PostgresStoreConfig(**found)  # type: ignore[arg-type]
