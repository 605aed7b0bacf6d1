"""The shop on the cloud target: the same models, definitions and training rows as locally."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import redis
import yaml
from google.cloud import bigquery
from psycopg.conninfo import make_conninfo

from contract.redis_address import RedisAddress
from examples.shop import load_bigquery
from examples.shop.load import Parameters, write
from examples.shop.simulation import simulate
from examples.shop.tables import raw_tables
from runner.collecting.served_rows import PREDICTIONS
from runner.commands.predictions.prediction import predict
from runner.commands.predictions.prediction_output import OutputFile
from runner.commands.training.training import TrainingResult, train
from runner.feature_store.store import apply_recipe, open_store, recipe_features, training_table
from runner.modelling.training_data import table_digest
from runner.online.audit import audit
from runner.online.materialize import materialize
from runner.project.manifest import Manifest, load_manifest
from runner.recipes.recipe import load_recipe
from runner.records import registry
from runner.settings import PostgresAddress, load_settings
from runner.warehouse.bigquery.collected import BigQueryCollected
from runner.warehouse.bigquery.figures import BigQueryFigures
from runner.warehouse.collected_table import CollectedRow
from runner.warehouse.figures_table import FiguredDays, FigureRow
from runner.warehouse.postgres.collected import open_postgres_collected
from runner.warehouse.postgres.figures import open_postgres_figures
from tests import warm
from tests.collected_rows import collected_row
from tests.conftest import copy_folder, postgres_env
from tests.emulators.bigquery import Emulator
from tests.online_project import stored_hashes
from tests.page_views import insert, page_views
from tests.serving_process import serving

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]
USERS, DAYS = 40, 60
END = datetime(2025, 6, 30, tzinfo=UTC)
START = END - timedelta(days=DAYS)
TABLES = {
    "feature_mart.user_activity": "user_id, event_timestamp",
    "feature_mart.user_category_affinity": "user_id, category_id, event_timestamp",
    "feature_mart.user_demographics": "user_id, event_timestamp, created_at",
    "feature_mart.user_session": "user_id, event_timestamp",
    "feature_mart.user_sign_up": "user_id, event_timestamp",
    "spine_data.spine_category_purchase": "user_id, category_id, event_timestamp",
    "spine_data.spine_cross_sell": "order_id",
    "spine_data.spine_user_spend": "user_id, event_timestamp",
    "spine_data.outcome_category_purchase": "server_row",
    "spine_data.outcome_cross_sell": "server_row",
    "spine_data.outcome_user_spend": "server_row",
}
FIGURES = [
    FigureRow(END.date(), "rows", "", 12.0, answered_rows=12),
    FigureRow(END.date(), "drift", "prediction", 0.25, p_value=0.5, answered_rows=12),
    FigureRow(END.date(), "age", "user_activity", 3600.5),
    FigureRow(END.date(), "score", "r2", -0.5, -0.75, 0.1 + 0.2, answered_rows=7),
]
MARTS = [
    "user_activity",
    "user_category_affinity",
    "user_demographics",
    "user_session",
    "user_sign_up",
]


@dataclass(frozen=True)
class Project:
    """A copy of the project, its cloud target the emulator, its local target a PostgreSQL."""

    root: Path
    env: dict[str, str]
    client: bigquery.Client
    postgres: PostgresAddress

    def build(self, target: str) -> dict[str, Any]:
        """Run `dbt build`, which must succeed; return what it did by dbt model."""
        done = subprocess.run(
            [warm.program("dbt"), "build", "--target", target],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout
        results = json.loads((self.root / "target" / "run_results.json").read_bytes())["results"]
        return {result["unique_id"].split(".")[2]: result for result in results}

    def rows(self, table: str, order: str) -> list[dict[str, Any]]:
        """Return a table's rows in BigQuery."""
        query = f"select * from {table} order by {order}"
        rows: list[dict[str, Any]] = self.client.query(query).result().to_arrow().to_pylist()
        for row in rows:
            if text := row.get("probabilities"):  # JSON, which Arrow has as text
                row["probabilities"] = json.loads(text)
        return rows

    def local_rows(self, table: str, order: str) -> list[dict[str, Any]]:
        """Return a table's rows in PostgreSQL."""
        with (
            psycopg.connect(**self.postgres.conninfo) as connection,
            connection.cursor(row_factory=psycopg.rows.dict_row) as cursor,
        ):
            return cursor.execute(f"select * from {table} order by {order}").fetchall()

    def load(self, days: int) -> None:
        """Replace BigQuery's raw tables by what had arrived `days` days after the start."""
        end = START + timedelta(days=days)
        for name, table in _raw_tables().items():
            arrived = table.filter(pc.less_equal(table["loaded_at"], pa.scalar(end)))
            load_bigquery.replace(self.client, name, arrived)
        views = page_views(USERS, END)  # the last are of the last hours
        until = END if days == DAYS else END - timedelta(hours=2)
        views = views.filter(pc.less_equal(views["collected_at"], pa.scalar(until)))
        load_bigquery.replace(self.client, "page_views", views)
        kind = pa.timestamp("us", tz="UTC")
        times = {"loaded_from": pa.array([START], kind), "loaded_until": pa.array([end], kind)}
        load_bigquery.replace(self.client, "loads", pa.table(times))


def _collected() -> list[CollectedRow]:
    """Return each mail's recommendation as an answer of every model, as collected."""
    rows: list[CollectedRow] = []
    for sent in _raw_tables()["recommendations"].to_pylist():
        user, category, at = sent["user_id"], sent["category_id"], sent["recommended_at"]
        asked: dict[str, dict[str, int]] = {
            "is_purchase_7d": {"user_id": user, "category_id": category},
            "spend_7d_usd": {"user_id": user},
            "is_cross_sell_7d": {"user_id": user, "bought": 1, "offered": category},
        }
        for label, keys in asked.items():
            given = {"order_value_usd": 0.1 + 0.2}
            rows.append(collected_row(len(rows) + 1, at, label, keys, given))
    return rows


def _raw_tables() -> dict[str, pa.Table]:
    return raw_tables(simulate(USERS, DAYS, 7), END)


@pytest.fixture(scope="module")
def project(
    client: bigquery.Client,
    emulator: Emulator,
    module_database: PostgresAddress,
    redis_server: RedisAddress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    root = tmp_path_factory.mktemp("shop")
    for name in ("dbt_project", "profiles", "recipes", "feature_repo"):
        copy_folder(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "dbt_project.yml", root)
    profile = yaml.safe_load((root / "profiles" / "profiles.yml").read_text())
    # The emulator asks for no account; a failed query is not to be repeated.
    profile["shop"]["outputs"]["cloud"] |= {"method": "oauth-secrets", "token": "none"}
    profile["shop"]["outputs"]["cloud"]["job_retries"] = 0
    (root / "profiles.yml").write_text(yaml.safe_dump(profile))
    client.create_dataset("raw_events", exists_ok=True)
    address = {
        **postgres_env(module_database),
        "BIGQUERY_LOCATION": "US",
        "FEAST_REGISTRY": str(root / "registry.db"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "REDIS_URL": redis_server.url,
    }
    env = {**os.environ, **emulator.environment, **address}
    return Project(root, env, client, module_database)


@dataclass(frozen=True)
class Built:
    """The project after a local build and two on the cloud target, the second with new days.

    Attributes
    ----------
    jobs
        The query jobs of the latter.
    """

    project: Project
    manifests: dict[str, Manifest]
    first: dict[str, Any]
    second: dict[str, Any]
    jobs: list[bigquery.QueryJob]


@pytest.fixture(scope="module")
def built(project: Project) -> Built:
    with psycopg.connect(**project.postgres.conninfo, autocommit=True) as connection:
        write(connection, _raw_tables(), Parameters(USERS, DAYS, 7, END), "feature_mart")
        insert(connection, page_views(USERS, END))
    conninfo = make_conninfo("", **project.postgres.conninfo)
    with open_postgres_collected(conninfo, "raw_data", PREDICTIONS) as local:
        local.append(_collected())
    day = END.date()
    figured = FiguredDays("category_purchase_rf", "1", day, day)
    with open_postgres_figures(project.postgres) as figures:
        figures.replace(figured, FIGURES)
    manifest = project.root / "target" / "manifest.json"
    project.build("local")
    manifests = {"local": load_manifest(manifest)}
    before = {job.job_id for job in _query_jobs(project.client)}
    project.load(DAYS - 2)
    first = project.build("cloud")
    project.load(DAYS)
    built_once = {job.job_id for job in _query_jobs(project.client)}
    BigQueryCollected(project.client, "raw_events", PREDICTIONS).append(_collected())
    BigQueryFigures(project.client).replace(figured, FIGURES)
    before |= {job.job_id for job in _query_jobs(project.client)} - built_once
    second = project.build("cloud")
    manifests["cloud"] = load_manifest(manifest)
    jobs = [job for job in _query_jobs(project.client) if job.job_id not in before]
    return Built(project, manifests, first, second, jobs)


def _query_jobs(client: bigquery.Client) -> list[bigquery.QueryJob]:
    jobs = client.list_jobs(max_results=10_000)
    return [job for job in jobs if isinstance(job, bigquery.QueryJob)]


def test_the_second_build_merges_the_new_days_only(built: Built) -> None:
    for mart in ("user_activity", "user_category_affinity", "user_session"):
        assert built.first[mart]["adapter_response"]["code"] == "CREATE TABLE"
        assert built.second[mart]["adapter_response"]["code"] == "MERGE"


@pytest.mark.parametrize(
    ("mart", "keys"),
    [
        ("user_activity", ["user_id"]),
        ("user_category_affinity", ["user_id", "category_id"]),
        ("user_demographics", ["user_id"]),
        ("user_session", ["user_id"]),
        ("user_sign_up", ["user_id"]),
    ],
)
def test_a_mart_is_partitioned_by_day_and_clustered_by_its_keys(
    built: Built, mart: str, keys: list[str]
) -> None:
    table = built.project.client.get_table(f"feature_mart.{mart}")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == (
        "DAY",
        "event_timestamp",
    )
    assert table.clustering_fields == keys


def test_builds_leave_no_table_behind(built: Built) -> None:
    client = built.project.client
    assert {table.table_id for table in client.list_tables("feature_mart")} == set(MARTS)


@pytest.mark.parametrize("table", TABLES)
def test_both_warehouses_hold_the_same_rows(built: Built, table: str) -> None:
    cloud = built.project.rows(table, TABLES[table])
    local = built.project.local_rows(table, TABLES[table])
    assert len(cloud) >= USERS
    assert_same_rows(cloud, local)


def test_both_warehouses_show_the_same_figures(built: Built) -> None:
    """The first build on the cloud target had no dataset `monitoring`."""
    table, order = "staging.stg_monitoring__figures", "kind"
    local = built.project.local_rows(table, order)
    assert len(local) == len(FIGURES)
    found = [built.project.rows(table, order), local]
    for row in [row for rows in found for row in rows]:
        assert row.pop("written_at").utcoffset() == timedelta(0)
    assert found[0] == found[1]


def test_every_job_of_dbt_says_so_and_for_which_node(built: Built) -> None:
    assert {job.labels.get("runner") for job in built.jobs} == {"dbt"}
    nodes = {job.labels["node"] for job in built.jobs}
    assert nodes >= {f"model_shop_{table.split('.')[1]}" for table in TABLES}
    assert any(node.startswith("test_shop_not_null") for node in nodes)
    assert len({job.labels["dbt_invocation_id"] for job in built.jobs}) == 2


def test_a_dataset_that_is_there_is_not_asked_for_again(built: Built) -> None:
    """Making one is a right of the whole project, which the account of deploy/ lacks."""
    asked = [job.query for job in built.jobs if "create schema" in job.query.lower()]
    made = [re.findall(r"`\w+`(?=\s*$)", query.strip().rstrip(";")) for query in asked]
    assert made
    assert len({str(names) for names in made}) == len(made)


def test_both_targets_give_the_same_training_rows(built: Built) -> None:
    local, cloud = (_training_rows(built, target) for target in ("local", "cloud"))
    assert cloud.schema.names == local.schema.names
    assert cloud.schema.types == local.schema.types
    assert cloud.num_rows > USERS
    assert cloud.to_pylist() == local.to_pylist()
    assert table_digest(cloud) == table_digest(local)


def test_both_targets_give_the_same_online_bytes(built: Built) -> None:
    stored = []
    for target in ("local", "cloud"):
        os.environ.update(built.project.env)
        settings = load_settings(target, built.project.root)
        with redis.Redis.from_url(settings.redis.url) as client:
            client.flushall()
        marts = [built.manifests[target].marts[mart] for mart in MARTS]
        reports = materialize(settings, marts, as_of=END)
        assert all(report.entities >= USERS / 2 for report in reports)
        with redis.Redis.from_url(settings.redis.url) as client:
            stored.append(stored_hashes(client))
    assert stored[0] == stored[1]


def _training_rows(built: Built, target: str) -> pa.Table:
    root = built.project.root
    os.environ.update(built.project.env)
    recipe = load_recipe(root / "recipes" / "rf.yaml")
    manifest = built.manifests[target]
    store = open_store(load_settings(target, root))
    apply_recipe(store, manifest, recipe)
    features = recipe_features(recipe, manifest)
    return training_table(store, recipe, manifest.spines[recipe.spine], features)


@pytest.fixture(scope="module")
def trained(built: Built) -> dict[str, tuple[TrainingResult, pa.Table]]:
    """What the commands give on either target: the training, and predictions for its spine."""
    root = built.project.root
    recipe = root / "recipes" / "rf.yaml"
    # The shop is small: leave more than six rows to train on, and let trees grow on them.
    text = recipe.read_text().replace("test: 28d", "test: 14d")
    recipe.write_text(text.replace("min_samples_leaf: 25", "min_samples_leaf: 2"))
    found = {}
    for target in ("local", "cloud"):
        os.environ.update(built.project.env)
        settings = load_settings(target, root)
        result = train(settings, recipe)
        registry.connect(settings).set_registered_model_alias(
            result.registered_model_name, "champion", result.version
        )
        output = root / f"{target}.parquet"
        uri = f"models:/{result.registered_model_name}@champion"
        predict(settings, uri, "spine_category_purchase", OutputFile(output))
        found[target] = (result, pq.read_table(output))
    return found


def test_both_targets_give_the_same_split_scores_and_predictions(
    built: Built, trained: dict[str, tuple[TrainingResult, pa.Table]]
) -> None:
    (local, of_local), (cloud, of_cloud) = trained["local"], trained["cloud"]
    assert (local.version, cloud.version) == ("1", "2")
    assert set(cloud.scores) == {"roc_auc", "average_precision", "neg_log_loss"}
    assert cloud.scores == local.scores
    assert cloud.intervals == local.intervals
    client = registry.connect(load_settings("cloud", built.project.root))
    runs = [client.get_run(result.run_id).data for result in (local, cloud)]
    for name in ("n_train_rows", "n_test_rows", "n_embargoed_rows"):
        assert runs[0].metrics[name] == runs[1].metrics[name] > 0
    for name in ("train_until", "test_from"):
        assert runs[0].params[name] == runs[1].params[name]
    key = [(name, "ascending") for name in ("user_id", "category_id", "event_timestamp")]
    assert of_cloud.num_rows > USERS
    assert len(of_cloud["probability_1"].unique()) > USERS  # a model that tells rows apart
    of_local, of_cloud = of_local.sort_by(key), of_cloud.sort_by(key)
    for name in of_local.column_names:
        if name != "model_version":
            assert of_cloud[name].to_pylist() == of_local[name].to_pylist(), name


def test_what_is_online_is_what_the_join_in_bigquery_gives(
    built: Built, trained: dict[str, tuple[TrainingResult, pa.Table]]
) -> None:
    assert trained["cloud"]
    root = built.project.root
    os.environ.update(built.project.env)
    settings = load_settings("cloud", root)
    manifest = load_manifest(settings.manifest_path)
    materialize(settings, list(manifest.marts.values()))
    audited = audit(settings, manifest, load_recipe(root / "recipes" / "rf.yaml"), entities=20)
    assert all(feature.compared and not feature.has_skew for feature in audited)


def test_http_answers_what_predict_writes_for_a_file_of_keys(
    built: Built, trained: dict[str, tuple[TrainingResult, pa.Table]]
) -> None:
    name = trained["cloud"][0].registered_model_name
    root = built.project.root
    os.environ.update(built.project.env)
    settings = load_settings("cloud", root)
    manifest = load_manifest(settings.manifest_path)
    materialize(settings, list(manifest.marts.values()))
    keys = [{"user_id": user, "category_id": 1 + user % 3} for user in range(1, USERS + 3)]
    source, output = root / "keys.parquet", root / "by_keys.parquet"
    pq.write_table(pa.Table.from_pylist(keys), source)
    predict(settings, f"models:/{name}@champion", str(source), OutputFile(output))
    uri = settings.mlflow_tracking_uri
    model = f"models:/{name}@champion"
    with (
        serving(model, settings.redis.url, MLFLOW_TRACKING_URI=uri) as server,
        server.client() as client,
    ):
        answer = client.post("/predict", json={"entity_rows": keys}).raise_for_status().json()
    written = pq.read_table(output).to_pylist()
    assert answer["model"] == {"name": name, "version": "2"}
    assert len({row["probability_1"] for row in written}) > 1
    for row, told in zip(written, answer["predictions"], strict=True):
        assert told["prediction"] == row["prediction"]
        assert told["probabilities"]["1"] == pytest.approx(row["probability_1"], abs=1e-6)


def assert_same_rows(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    """Compare value by value; floats may differ in the last digits, as sums do."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, float):
                assert math.isclose(value, other[name], rel_tol=1e-12), (name, one, other)
            else:
                assert value == other[name], (name, one, other)
