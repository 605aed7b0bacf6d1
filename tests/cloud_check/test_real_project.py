"""`make cloud-check`: the servers of a real Google Cloud project, as its variables name them.

Reads only, and nothing that BigQuery bills. Run it where the servers can be reached, with the
variables of profiles/cloud.env set.
"""

from __future__ import annotations

import pytest
from google.cloud import bigquery

from runner.commands.project.doctor import diagnose
from runner.commands.training.plan import plan
from runner.feature_store.registry_bucket import require_bucket
from runner.servers.redis_login import login
from runner.servers.tracking_server import require_tracking_server
from runner.settings import Settings, load_settings
from tests.demanded_limit import demanded_limit


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    if not request.config.getoption("--cloud-check"):
        pytest.skip("needs a Google Cloud project: run `make cloud-check` with one")
    return load_settings("cloud")


@pytest.mark.timeout(60)
def test_redis_lets_us_in_with_tls_and_a_password(settings: Settings) -> None:
    assert settings.redis.url.startswith("rediss://")
    assert settings.redis.password
    assert login(settings.redis)


@pytest.mark.timeout(60)
def test_the_bucket_of_feasts_registry_can_be_read(settings: Settings) -> None:
    require_bucket(settings.env["FEAST_REGISTRY"])


@pytest.mark.timeout(60)
def test_the_mlflow_server_lets_us_in(settings: Settings) -> None:
    assert settings.mlflow_tracking_uri.startswith("https://")
    require_tracking_server(settings)


@pytest.fixture
def client(settings: Settings) -> bigquery.Client:
    project, location = (settings.env[n] for n in ("GOOGLE_CLOUD_PROJECT", "BIGQUERY_LOCATION"))
    return bigquery.Client(project, location=location)


@pytest.mark.timeout(300)
def test_doctor_finds_nothing_wrong(settings: Settings) -> None:
    assert [found for found in diagnose(settings) if not found.is_ok] == []


@pytest.mark.timeout(60)
def test_bigquery_sorts_and_rounds_as_our_sql_expects(client: bigquery.Client) -> None:
    query = """
        select cast(2.5 as int64) as rounded,
            array(
                select is_nan(x) from unnest([1.0, cast('nan' as float64)]) as x order by x
            ) as nans
    """
    [row] = client.query(query).result()
    assert (row["rounded"], list(row["nans"])) == (3, [True, False])


@pytest.mark.timeout(600)
def test_bigquery_demands_no_more_than_what_is_planned(
    settings: Settings, client: bigquery.Client
) -> None:
    """Wants `runner train recipes/rf.yaml --target cloud` to have been run."""
    planned = plan(settings, settings.root / "recipes" / "rf.yaml")
    assert [step.what for step in planned.steps if step.problem] == []
    for step in planned.steps:
        for sql, bill in zip(step.sql, step.bills, strict=False):  # a sweep is one query many times
            if bill.bytes_billed:
                assert demanded_limit(client, sql) <= bill.bytes_billed, step.what
