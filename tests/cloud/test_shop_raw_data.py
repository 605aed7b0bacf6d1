"""`python -m examples.shop --target cloud`: the demo's raw tables in BigQuery, by load jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from google.cloud import bigquery

from examples.shop.__main__ import generate
from examples.shop.load import Parameters
from examples.shop.simulation import simulate
from examples.shop.tables import raw_tables
from runner.errors import RunnerError
from tests.emulators.bigquery import Emulator

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETERS = Parameters(60, 40, 7, datetime(2025, 6, 30, tzinfo=UTC))


@pytest.fixture(autouse=True)
def _cloud(client: bigquery.Client, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    variables = {
        **emulator.environment,
        "BIGQUERY_LOCATION": "US",
        "DBT_SCHEMA_PREFIX": "raw_data_",  # datasets of these tests' own
        "FEAST_REGISTRY": "registry.db",
        "MLFLOW_TRACKING_URI": "none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def _generate(seed: int = PARAMETERS.seed) -> None:
    generate(PARAMETERS.users, PARAMETERS.days, seed, PARAMETERS.end, force=False, target="cloud")


def _jobs(client: bigquery.Client) -> dict[str, dict[str, str]]:
    """Return the labels of every job by its number."""
    return {job.job_id: job.labels for job in client.list_jobs(max_results=10_000)}


def test_every_row_is_loaded_once(
    client: bigquery.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _jobs(client)
    _generate()
    jobs = _jobs(client)
    tables = raw_tables(simulate(60, 40, 7), PARAMETERS.end)
    told = [f"raw_events.{name}: {table.num_rows} rows" for name, table in tables.items()]
    assert capsys.readouterr().out.splitlines() == told
    for name, table in tables.items():
        found = client.query(f"select * from raw_events.{name}").result().to_arrow()
        assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, table.to_pylist()))
    new = [labels for number, labels in jobs.items() if number not in before]
    assert new == [{"runner": "load"}] * (len(tables) + 1)

    before = _jobs(client)
    _generate()
    assert "60 users, 40 days up to 2025-06-30 already there" in capsys.readouterr().out
    assert _jobs(client) == before


def test_another_history_takes_the_incremental_marts_of_the_old_one_away(
    client: bigquery.Client,
) -> None:
    _generate()
    client.create_dataset("raw_data_feature_mart")
    client.query("create table raw_data_feature_mart.user_activity (user_id int64)").result()
    _generate(seed=8)
    [row] = client.list_rows(client.get_table("raw_events.loads"))
    assert row["seed"] == 8
    assert not list(client.list_tables("raw_data_feature_mart"))


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"error": {"code": 403, "message": "Access Denied"}}'
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_project_that_does_not_let_us_in_is_told_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        with pytest.raises(RunnerError, match=r"BigQuery, project test-project: 403 .*Denied") as e:
            _generate()
        server.shutdown()
    assert e.value.hint == "run `runner doctor --target cloud`"
