"""The project of `tests.online_project` with its feature marts in the BigQuery emulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from google.cloud import bigquery

from runner.online.materialize import materialize
from runner.online.view_report import ViewReport
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from tests.instants import at
from tests.online_project import (
    PROJECT,
    Hashes,
    dtypes,
    empty_mart,
    newest_rows,
    serialized,
    stored_hashes,
)

_SQL_TYPES = {
    "int64": "int64",
    "int32": "int64",
    "float64": "float64",
    "float32": "float64",
    "string": "string",
    "bool": "bool",
    "timestamp": "timestamp",
}
_YAML = f"""\
project: {PROJECT}
provider: local
entity_key_serialization_version: 3
registry: registry.db
offline_store:
  type: runner.warehouse.bigquery.offline_store.PointInTimeBigQueryOfflineStore
  dataset: {{dataset}}
online_store: {{{{type: redis, key_ttl_seconds: 86400}}}}
"""


class BigQueryProject:
    """Settings of the cloud target, marts in `dataset`, and what both stores hold."""

    def __init__(self, root: Path, client: bigquery.Client, dataset: str, redis_url: str) -> None:
        (root / "profiles").mkdir()
        (root / "feature_repo").mkdir()
        yaml = _YAML.format(dataset=dataset)
        (root / "profiles" / "feature_store.cloud.yaml").write_text(yaml)
        env = {"REDIS_URL": redis_url, "MLFLOW_TRACKING_URI": "none"}
        self.settings = Settings(target="cloud", root=root, env=env)
        self.client = client
        self.dataset = dataset
        self.marts: list[FeatureMart] = []

    def mart(
        self,
        name: str,
        keys: Mapping[str, str],
        features: Mapping[str, str],
        *,
        ttl: timedelta | None = None,
        created: bool = True,
        layout: str = "partition by timestamp_trunc(event_timestamp, day)",
        compare_every: timedelta | None = None,
    ) -> FeatureMart:
        """Create an empty feature mart: column name → dtype for keys and features."""
        place = (self.client.project, self.dataset)
        mart = empty_mart(
            name, place, keys, features, ttl=ttl, created=created, adapter_type="bigquery"
        )
        mart = replace(mart, compare_every=compare_every)
        declared = ", ".join(f"`{column}` {_SQL_TYPES[t]}" for column, t in dtypes(mart).items())
        self.run(f"create or replace table {self.dataset}.{name} ({declared}) {layout}")
        self.marts.append(mart)
        return mart

    def run(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Run `sql` with values for its `?`; return its rows."""
        options = bigquery.QueryJobConfig(query_parameters=[_parameter(value) for value in values])
        return [dict(row) for row in self.client.query(sql, job_config=options).result()]

    def insert(self, mart: FeatureMart, *rows: Sequence[Any]) -> None:
        """Insert rows, each in the order of the mart's columns."""
        if not rows:
            return
        kinds = [_SQL_TYPES[column.dtype] for column in mart.columns.values()]
        one = ", ".join(f"cast(? as {kind})" for kind in kinds)
        selects = " union all ".join(f"select {one}" for _ in rows)
        values = [value for row in rows for value in row]
        self.run(f"insert into {self.dataset}.{mart.alias} {selects}", *values)

    def delete(self, mart: FeatureMart, condition: str) -> None:
        """Delete the rows that satisfy `condition`."""
        self.run(f"delete from {self.dataset}.{mart.alias} where {condition}")

    def materialize(self, hours: float = 0, *, full: bool = False) -> list[ViewReport]:
        """Materialize every mart at `hours` from NOW."""
        return materialize(self.settings, self.marts, full=full, as_of=at(hours))

    def online(self) -> Hashes:
        """Return every hash in the online store that is not ours for bookkeeping."""
        with redis.Redis.from_url(self.settings.redis.url) as client:
            return stored_hashes(client)

    def expected(self, hours: float = 0) -> Hashes:
        """Return what the online store must hold at `hours` from NOW."""
        hashes: Hashes = {}
        for mart in self.marts:
            rows = self.run(f"select * from {self.dataset}.{mart.alias}")
            for key, row in newest_rows(mart, rows, at(hours)).items():
                hashes.setdefault(key, {}).update(serialized(mart, row))
        return hashes


def _parameter(value: Any) -> bigquery.ScalarQueryParameter:
    kinds = {bool: "BOOL", int: "INT64", float: "FLOAT64", str: "STRING"}
    kind = kinds.get(type(value), "TIMESTAMP") if value is not None else "STRING"
    return bigquery.ScalarQueryParameter(None, kind, value)
