"""The shop's dbt project on the cloud target: the same models, built twice in the emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from google.cloud import bigquery

from examples.shop.simulation import simulate
from examples.shop.tables import raw_tables
from tests.cloud.bigquery_stores import load_arrow
from tests.emulators.bigquery import Emulator

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(170)]

REPOSITORY = Path(__file__).resolve().parents[2]
USERS, DAYS = 20, 40
END = datetime(2025, 6, 30, tzinfo=UTC)
MARTS = ("user_activity", "user_category_affinity", "user_demographics")


@dataclass(frozen=True)
class Project:
    """A copy of the dbt project whose cloud target is the emulator."""

    root: Path
    env: dict[str, str]
    client: bigquery.Client

    def build(self) -> dict[str, Any]:
        """Run `dbt build --target cloud`, which must succeed; return its results by name."""
        done = subprocess.run(
            [Path(sys.executable).with_name("dbt"), "build", "--target", "cloud"],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
        assert done.returncode == 0, done.stdout
        results = json.loads((self.root / "target" / "run_results.json").read_bytes())["results"]
        return {result["unique_id"].split(".")[2]: result for result in results}

    def query(self, sql: str) -> list[Any]:
        """Return the rows of `sql` as tuples."""
        return [tuple(row.values()) for row in self.client.query(sql).result()]

    def load(self, days: int) -> None:
        """Replace the raw tables by what had arrived after `days` days."""
        end = datetime.fromtimestamp(END.timestamp() - (DAYS - days) * 86_400, tz=UTC)
        shop = simulate(USERS, DAYS, 7)
        tables = raw_tables(shop, END)
        for name, table in tables.items():
            arrived = table.filter(pc.less_equal(table["loaded_at"], pa.scalar(end)))
            load_arrow(self.client, f"raw_events.{name}", arrived)
        start = datetime.fromtimestamp(END.timestamp() - DAYS * 86_400, tz=UTC)
        times = {"loaded_from": [start], "loaded_until": [end]}
        kind = pa.timestamp("us", tz="UTC")
        loads = pa.table({name: pa.array(values, kind) for name, values in times.items()})
        load_arrow(self.client, "raw_events.loads", loads)


@pytest.fixture(scope="module")
def project(
    client: bigquery.Client, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    root = tmp_path_factory.mktemp("shop")
    for name in ("dbt_project", "profiles"):
        shutil.copytree(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "dbt_project.yml", root)
    profile = yaml.safe_load((root / "profiles" / "profiles.yml").read_text())
    # The emulator asks for no account; a failed query is not to be repeated.
    profile["shop"]["outputs"]["cloud"] |= {"method": "oauth-secrets", "token": "none"}
    profile["shop"]["outputs"]["cloud"]["job_retries"] = 0
    (root / "profiles.yml").write_text(yaml.safe_dump(profile))
    client.create_dataset("raw_events", exists_ok=True)
    env = {**os.environ, **emulator.environment, "BIGQUERY_LOCATION": "US"}
    return Project(root, env, client)


def test_the_same_models_build_twice_and_the_second_time_add_the_new_days(
    project: Project,
) -> None:
    project.load(DAYS - 2)
    project.build()
    before = project.query("select max(event_timestamp) from feature_mart.user_activity")
    old = project.query("select * from feature_mart.user_activity order by 1, 2")
    project.load(DAYS)
    project.build()
    after = project.query("select max(event_timestamp) from feature_mart.user_activity")
    assert (after[0][0] - before[0][0]).days == 2
    kept = project.query(
        "select * from feature_mart.user_activity "
        f"where event_timestamp <= timestamp '{before[0][0].isoformat()}' order by 1, 2"
    )
    assert kept == old
