"""What the cloud target cannot do yet says so."""

import pytest

from runner.errors import RunnerError
from runner.servers import local_servers
from runner.settings import Settings
from runner.warehouse.bigquery.join_sql import point_in_time_query
from runner.warehouse.bigquery.mart import BigQueryMart
from runner.warehouse.join.join_parts import JoinColumn, JoinFeature, JoinSpine, JoinView


@pytest.mark.parametrize("command", [local_servers.up, local_servers.down])
def test_a_command_that_needs_postgresql_refuses_the_cloud_target(tmp_path, command):
    settings = Settings("cloud", tmp_path, {"REDIS_URL": "redis://127.0.0.1:1/0"})
    with pytest.raises(RunnerError, match="target cloud has no PostgreSQL"):
        command(settings)


def test_on_the_cloud_target_no_server_of_this_machine_is_required(tmp_path):
    local_servers.require_servers(Settings("cloud", tmp_path, {}))


@pytest.mark.parametrize(
    ("hours", "known"), [(0, True), (47, True), (48, False), (1_000, False), (-1, False)]
)
def test_after_two_days_a_table_of_bigquery_is_copied_in_full(hours, known):
    mart = BigQueryMart.__new__(BigQueryMart)  # what its last run was is all that is asked
    mart.horizon = 10**12
    assert mart.knows_changes_since(mart.horizon - hours * 3_600_000) is known


@pytest.mark.parametrize("features", [9_998, 9_999])
def test_more_columns_than_bigquery_returns_are_refused_before_anything_runs(features):
    columns = (JoinColumn("id", "INT64"), JoinColumn("event_timestamp", "TIMESTAMP"))
    spine = JoinSpine("select 1", columns, "event_timestamp", "spine_row")
    view = JoinView(
        name="wide",
        source="`p.d.wide`",
        keys=(("id", columns[0]),),
        timestamp=columns[1],
        created=None,
        features=tuple(
            JoinFeature(JoinColumn(f"f{n}", "INT64"), "INT64", f"f{n}") for n in range(features)
        ),
        tie_break=(),
        ttl=None,
        knowledge_time=True,
        is_indexed=False,
    )
    if len(columns) + features <= 10_000:
        assert point_in_time_query(spine, [view], columns)
        return
    with pytest.raises(RunnerError, match=r"at most 10,000 columns; .* are 10,001"):
        point_in_time_query(spine, [view], columns)
