"""The shop's dbt project against a real PostgreSQL, with dbt's own command line."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import psycopg
import pytest
import yaml
from dotenv import dotenv_values
from psycopg.conninfo import make_conninfo

from examples.shop.load import INCREMENTAL_MARTS, Parameters, write
from examples.shop.simulation import simulate
from examples.shop.tables import DDL, raw_tables
from runner.collecting.served_rows import PREDICTIONS
from runner.project.event_sources import event_tables
from runner.project.manifest import load_manifest
from runner.warehouse.figures_table import FiguredDays, FigureKind, FigureRow
from runner.warehouse.postgres.collected import open_postgres_collected
from runner.warehouse.postgres.figures import open_postgres_figures
from tests import warm
from tests.collected_rows import collected_row
from tests.conftest import copy_folder, postgres_env
from tests.page_views import insert, page_views

REPOSITORY = Path(__file__).resolve().parents[2]
END = datetime(2025, 6, 30, tzinfo=UTC)
MARTS = (
    "user_demographics",
    "user_activity",
    "user_category_affinity",
    "user_sign_up",
    "user_session",
)
# The generator does not make what the web site sends.
SENT_MARTS = ("user_session",)


@dataclass(frozen=True)
class Project:
    """A copy of the dbt project, bound to a database of its own."""

    root: Path
    env: dict[str, str]
    connection: psycopg.Connection

    def dbt(self, *arguments, **env):
        """Run dbt from the project's root, as a user would; it must succeed."""
        done = subprocess.run(
            [warm.program("dbt"), *arguments],
            cwd=self.root,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def results(self):
        """What the last command did: dbt's `run_results.json`."""
        return json.loads((self.root / "target/run_results.json").read_bytes())["results"]

    @property
    def manifest(self):
        """What dbt last parsed."""
        return json.loads((self.root / "target/manifest.json").read_bytes())

    @property
    def models(self):
        """The dbt models of the manifest."""
        nodes = self.manifest["nodes"].values()
        return [node for node in nodes if node["resource_type"] == "model"]

    def query(self, sql):
        return self.connection.execute(sql).fetchall()

    def rows_written(self, name):
        """How many rows the last command wrote into a dbt model."""
        return next(
            result["adapter_response"]["rows_affected"]
            for result in self.results
            if result["unique_id"] == f"model.shop.{name}"
        )


@pytest.fixture(scope="module")
def project(module_database, tmp_path_factory):
    root = tmp_path_factory.mktemp("shop")
    for name in ("dbt_project", "profiles"):
        copy_folder(REPOSITORY / name, root / name)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(REPOSITORY / name, root / name, follow_symlinks=False)
    env = {
        **os.environ,
        **postgres_env(module_database),
    }
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        tables = raw_tables(simulate(80, 60, 7), END)
        write(connection, tables, Parameters(80, 60, 7, END), "feature_mart")
        insert(connection, page_views(80, datetime(2025, 6, 20, 20, tzinfo=UTC)))
        yield Project(root, env, connection)


@pytest.fixture(scope="module")
def built(project):
    """The project after a bare `dbt build --target local`."""
    project.dbt("build", "--target", "local")
    return project


def test_a_bare_build_passes_every_test_and_unit_test(built):
    statuses = {result["unique_id"]: result["status"] for result in built.results}
    assert set(statuses.values()) == {"success", "pass"}
    kinds = [unique_id.split(".")[0] for unique_id in statuses]
    assert kinds.count("model") == len(built.models)
    assert kinds.count("unit_test") >= 15
    assert kinds.count("test") >= 30


def test_every_schema_has_the_name_it_is_configured_with(built):
    schemas = {model["schema"] for model in built.models}
    assert schemas == {"staging", "feature_mart", "spine_data"}


def test_every_model_and_column_is_described(built):
    for model in built.models:
        assert model["description"].startswith("One row per "), model["name"]
        for name, column in model["columns"].items():
            assert len(column["description"]) > 10, f"{model['name']}.{name}"


def test_every_column_of_marts_and_spines_says_what_null_means_and_its_type_is_enforced(built):
    for model in built.models:
        if model["schema"] in {"feature_mart", "spine_data"}:
            assert model["contract"]["enforced"], model["name"]
            for name, column in model["columns"].items():
                null_rule = re.search(r"[Nn]ull|never null", column["description"])
                assert null_rule, f"{model['name']}.{name}"


def test_the_runner_finds_the_marts_and_spines_in_the_manifest(built):
    manifest = load_manifest(built.root / "target/manifest.json")
    assert set(manifest.marts) == set(MARTS)
    [views] = event_tables(built.root / "target/manifest.json")
    assert {column.name for column in views.columns if column.required} == {"user_id"}
    labels = ("category_purchase", "cross_sell", "user_spend")
    spines = {f"{kind}_{label}" for kind in ("spine", "outcome") for label in labels}
    assert set(manifest.spines) == spines
    assert manifest.spines["spine_cross_sell"].roles == dict.fromkeys(
        ("bought", "offered"), "category"
    )
    for spine in manifest.spines.values():  # 7 days, and 3 in which orders may arrive
        assert set(spine.labels.values()) == {timedelta(days=10)}, spine.name


@pytest.mark.parametrize("mart", MARTS)
def test_each_mart_has_the_index_of_the_point_in_time_join(built, mart):
    model = next(model for model in built.models if model["name"] == mart)
    keys = ", ".join(model["config"]["meta"]["entities"].values())
    definitions = built.query(
        "select indexdef from pg_indexes "
        f"where schemaname = 'feature_mart' and tablename = '{mart}'"
    )
    joined = [text for (text,) in definitions if f"({keys}, event_timestamp DESC" in text]
    assert len(joined) == 1


def test_the_generator_knows_the_incremental_marts(built):
    incremental = {
        model["name"] for model in built.models if model["config"]["materialized"] == "incremental"
    }
    assert incremental == {*INCREMENTAL_MARTS, *SENT_MARTS}


def test_no_label_is_in_the_spine_before_it_is_known(built):
    [(latest,)] = built.query("select max(event_timestamp) from spine_data.spine_category_purchase")
    [(known_until,)] = built.query(
        "select max(loaded_until) - interval '10 days' from raw_data.loads"
    )
    assert latest <= known_until


SERVED = {
    "is_purchase_7d": ("category_purchase", "user_id, category_id", "raw_data.recommendations"),
    "spend_7d_usd": ("user_spend", "user_id", "raw_data.recommendations"),
    "is_cross_sell_7d": ("cross_sell", "user_id, bought, offered", "spine_data.spine_cross_sell"),
}


@pytest.fixture(scope="module")
def served(built, module_database):
    """Every row that was asked for, decided or not, as if the API had answered it then."""
    rows = []
    for label, (_, keys, table) in SERVED.items():
        time = "recommended_at" if table.startswith("raw_data") else "event_timestamp"
        for *values, at in built.query(f"select distinct {keys}, {time} from {table}"):
            given = dict(zip(keys.split(", "), values, strict=True))
            features = {"order_value_usd": 10.5}
            rows.append(collected_row(len(rows), at, label, given, features))
            shadow = collected_row(len(rows), at, label, given, features)
            shadow[PREDICTIONS.position("answered_as")] = "shadow"
            rows.append(shadow)
    conninfo = make_conninfo("", **module_database.conninfo)
    with open_postgres_collected(conninfo, "raw_data", PREDICTIONS) as store:
        assert store.append(rows) == len(rows)
    built.dbt("build", "--target", "local", "--select", "stg_serving__predictions", "outcome")
    return rows


@pytest.mark.parametrize("label", SERVED)
def test_what_is_served_gets_the_label_that_the_spine_gives(built, served, label):
    name, keys, _ = SERVED[label]
    columns = f"distinct {keys}, event_timestamp, {label}"
    spine = set(built.query(f"select {columns} from spine_data.spine_{name}"))
    outcome = set(built.query(f"select {columns} from spine_data.outcome_{name}"))
    assert len({row[-1] for row in spine}) > 1
    assert outcome == spine


@pytest.mark.parametrize("label", SERVED)
def test_no_outcome_is_of_a_shadows_answer(built, served, label):
    name, _, _ = SERVED[label]
    found = built.query(f"""
        select answered_as, count(*) > 0
        from spine_data.outcome_{name}
        inner join raw_data.predictions using (server_id, server_row)
        group by 1
    """)
    assert found == [("answer", True)]


def test_what_is_not_due_yet_is_counted(built, served):
    [(not_due, oldest)] = built.query("""
        select count(*), min(served.served_at)
        from staging.stg_serving__predictions as served
        left join spine_data.outcome_category_purchase as outcome using (server_id, server_row)
        where
            served.label = 'is_purchase_7d'
            and coalesce(served.answered_as, 'answer') = 'answer'
            and outcome.server_id is null
    """)
    [(expected, known_until)] = built.query("""
        select count(*), max(loaded_until) - interval '10 days'
        from raw_data.recommendations
        cross join raw_data.loads
        where recommended_at > loaded_until - interval '10 days'
        group by loaded_until
    """)
    assert not_due == expected > 0
    assert oldest > known_until


def test_an_outcome_keeps_what_was_answered(built, served):
    found = built.query("""
        select model_name, model_version, prediction, probabilities, server_id, request_row,
            order_value_usd
        from spine_data.outcome_cross_sell
        limit 1
    """)
    probabilities = {"0": 0.25, "1": 0.75}
    assert found == [("is_cross_sell_7d_model", "3", "1", probabilities, "s1", 0, 10.5)]


FIGURES = "model.shop.stg_monitoring__figures"


@pytest.fixture(scope="module")
def figured(built, module_database):
    """The project with a figure of each kind, and its tests of figures: name → SQL."""
    day = END.date()
    rows = [FigureRow(day, kind, "a", 1.0) for kind in get_args(FigureKind)]
    rows.append(FigureRow(day, "drift", "b", 1 + 2**-52, p_value=1.0, answered_rows=3))
    rows.append(FigureRow(day, "score", "r2", -7.5, low=-8.0, high=-7.0, answered_rows=3))
    with open_postgres_figures(module_database) as store:
        store.replace(FiguredDays("m", "1", day, day), rows)
    built.dbt("build", "--target", "local", "--select", "stg_monitoring__figures")
    assert built.query("select count(*) from staging.stg_monitoring__figures") == [(len(rows),)]
    nodes = built.manifest["nodes"].values()
    return {
        node["name"]: node["compiled_code"]
        for node in nodes
        if node.get("attached_node") == FIGURES
    }


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        ("", "unique_combination_"),
        ("kind = 'drifts'", "accepted_values_"),
        ("value = 1.01", "drifts_and_shares_"),
        ("kind = 'missing', value = -0.1", "drifts_and_shares_"),
        ("kind = 'status', value = 'nan'", "drifts_and_shares_"),
        ("p_value = 1.01", "p_values_"),
        ("low = 2, high = 1", "confidence_intervals_"),
        *(
            (f"{column} = null", f"not_null_stg_monitoring__figures_{column}")
            for column in ("model_name", "model_version", "day", "kind", "name", "value")
        ),
    ],
)
def test_a_wrong_figure_fails_its_test_in_dbt(built, figured, wrong, test):
    with built.connection.transaction(force_rollback=True):
        built.connection.execute(
            "create temporary table wrong as "
            "select * from monitoring.figures where kind = 'drift' and name = 'a'"
        )
        if wrong:
            built.connection.execute("update wrong set name = 'c'")
            built.connection.execute(f"update wrong set {wrong}")
        built.connection.execute("insert into monitoring.figures select * from wrong")
        failed = [name for name, sql in figured.items() if built.query(sql)]
    assert [name.startswith(test) for name in failed] == [True], failed


def contents(project, mart):
    return project.query(f"select * from feature_mart.{mart} order by 1, 2, 3")


def hold_back(project, cut):
    """Leave in the raw tables only what had arrived by `cut`; return how to bring the rest."""
    for name in [*DDL, "loads", "page_views"]:
        project.connection.execute(
            f"create table if not exists held_{name} as table raw_data.{name}"
        )
        project.connection.execute(f"truncate raw_data.{name}")
        arrived = "collected_at" if name == "page_views" else "loaded_at"
        until = "loaded_until > loaded_from" if name == "loads" else f"{arrived} <= '{cut}'"
        project.connection.execute(
            f"insert into raw_data.{name} select * from held_{name} where {until}"
        )
    project.connection.execute(f"update raw_data.loads set loaded_until = '{cut}'")


def test_loads_in_steps_give_the_marts_of_one_load(built):
    expected = {mart: contents(built, mart) for mart in MARTS}
    for mart in (*INCREMENTAL_MARTS, *SENT_MARTS):
        built.connection.execute(f"drop table feature_mart.{mart}")
    last = "2025-06-30 00:00+00"
    for cut in ("2025-06-20 10:30+00", "2025-06-20 18:00+00", last):
        hold_back(built, cut)
        built.dbt("run", "--target", "local", "--select", "feature_mart")
    for mart in MARTS:
        assert contents(built, mart) == expected[mart], mart
    # The last step wrote the days from June 21, not the whole table again.
    assert 0 < built.rows_written("user_activity") <= 10 * 80


def test_a_new_feature_needs_only_its_sql_and_its_yaml(built):
    mart = built.root / "dbt_project/models/feature_mart/user_category_affinity"
    sql, description = mart.with_suffix(".sql"), mart.with_suffix(".yml")
    sql.write_text(
        sql.read_text().replace(
            "select totals.*", "select totals.*, totals.views_7d * 2 as clicks_7d"
        )
    )
    content = yaml.safe_load(description.read_text())
    content["models"][0]["columns"].append(
        {"name": "clicks_7d", "data_type": "bigint", "description": "Clicks. Never null."}
    )
    description.write_text(yaml.safe_dump(content))
    built.dbt("build", "--target", "local", "--select", "user_category_affinity")
    [(rows, filled)] = built.query(
        "select count(*), count(clicks_7d) from feature_mart.user_category_affinity"
    )
    assert rows == filled > 0


def test_the_cloud_target_parses_and_a_prefix_separates_developers(project):
    project.dbt(
        "parse", "--target", "cloud", GOOGLE_CLOUD_PROJECT="some-project", DBT_SCHEMA_PREFIX="ann_"
    )
    assert {model["schema"] for model in project.models} == {
        "ann_staging",
        "ann_feature_mart",
        "ann_spine_data",
    }
    sources = project.manifest["sources"].values()
    assert {source["schema"] for source in sources} == {"raw_events", "monitoring"}
    types = {
        column["data_type"]
        for model in project.models
        for column in model["columns"].values()
        if column.get("data_type")
    }
    assert "timestamptz" not in types


def test_the_profile_has_the_defaults_of_the_environment_file():
    profile = (REPOSITORY / "profiles/profiles.yml").read_text()
    for name, value in dotenv_values(REPOSITORY / "profiles/local.env").items():
        if name.startswith("PG"):
            assert f"env_var('{name}', '{value}')" in profile
