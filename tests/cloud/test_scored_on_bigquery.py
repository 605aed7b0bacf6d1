"""Predictions in a BigQuery table: a repeat replaces its version and day. And marks of tables."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from runner.errors import RunnerError
from runner.settings import Settings
from runner.warehouse.open_marks import table_marks
from runner.warehouse.open_scored import open_scored
from runner.warehouse.scored_table import ScoredBy

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(300)]
BY = ScoredBy("purchase", "3", datetime.now(UTC).replace(hour=12))


@pytest.fixture
def table(client, dataset):
    """Write rows and read users of a table `scores`."""
    settings = Settings("cloud", None, {"GOOGLE_CLOUD_PROJECT": client.project})
    name = f"{client.project}.{dataset}.scores"

    def write(*parts, by=BY, label=1):
        tables = [
            pa.table({"user_id": pa.array(users, pa.int64()), "prediction": [label] * len(users)})
            for users in parts
        ]
        schema = by.with_rows(tables[0]).schema
        with open_scored(settings, (dataset, "scores"), schema, by) as scored:
            for part in tables:
                scored.write(by.with_rows(part))

    def users():
        sql = f"select model_version, user_id from `{name}` order by 1, 2"
        return [tuple(row.values()) for row in client.query(sql).result()]

    yield settings, f"`{name}`", write, users
    client.delete_table(name, not_found_ok=True)


def test_a_repeat_replaces_and_other_versions_and_days_stay(table):
    settings, name, write, users = table
    write([1, 2], [3])
    write([1], by=dataclasses.replace(BY, version="2"))
    write([5], by=dataclasses.replace(BY, at=BY.at - timedelta(days=1)))
    write([4])
    assert users() == [("2", 1), ("3", 4), ("3", 5)]
    with pytest.raises(RunnerError, match=r"lacks columns.*prediction STRING \(it is INT64\)"):
        write([4], label="yes")
    assert set(table_marks(settings, [name, name.replace("scores", "nowhere")])) <= {name}
