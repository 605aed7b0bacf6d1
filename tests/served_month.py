"""A project with a champion, and the answers that it gave in a month, with known breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from contract.bundle import Bundle
from contract.scoring import Model
from runner.collecting.served_rows import PREDICTIONS
from runner.feature_store.as_of import open_as_of
from runner.monitoring.served_log import ServedLog, Window
from runner.monitoring.traffic_skew import FeatureSkew, traffic_skew
from runner.packaging.served_version import load_version
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.records import registry, tracking
from runner.records.run_record import Training
from runner.settings import Settings
from runner.warehouse.open_collected import open_served_log
from tests.answered_rows import answered, write
from tests.modelling import feature_table, make_recipe
from tests.trainings import changed, train

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, ROWS, BREAK, WORSE = 30, 120, 12, 20
VALUE, ORDERS = "activity__value", "activity__orders_7d"
FEATURE_COLUMNS = {
    "orders_7d": "bigint",
    "value": "double precision",
    "is_member": "boolean",
    "country": "text",
}
KEYS = {"user_id": "bigint", "event_timestamp": "timestamptz"}
SERVED = {
    "model_name": "text",
    "model_version": "text",
    "prediction": "text",
    "probabilities": "jsonb",
    "server_id": "text",
    "server_row": "bigint",
    "request_id": "text",
    "request_row": "bigint",
}
OUTCOME = ", ".join([*KEYS, *SERVED, "y"])
LOGGED = [column.name for column in PREDICTIONS.columns]


def declared(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


TABLES = f"""
create schema feature_mart; create schema outcome;
create table feature_mart.activity ({declared(KEYS | FEATURE_COLUMNS)});
create table outcome.outcome_y ({declared(KEYS | SERVED | {"y": "bigint"})});
"""


def write_manifest(settings: Settings) -> None:
    """Write what dbt says of the mart, the spine and the outcome model."""
    meta = {"entities": {"user": "user_id"}}
    labels = meta | {"labels": {"y": "7d"}}
    outcome = labels | {"outcome": {"spine": "spine_y", "label": "y"}}
    nodes = {
        "activity": ("feature_mart", KEYS | FEATURE_COLUMNS, meta),
        "spine_y": ("spine_data", KEYS | {"y": "bigint"}, labels),
        "outcome_y": ("outcome", KEYS | SERVED | {"y": "bigint"}, outcome),
    }
    content = {
        "metadata": {"project_name": "shop"},
        "nodes": {
            name: dbt_model(name, schema, settings.postgres.database, found, columns)
            for name, (schema, columns, found) in nodes.items()
        },
        "macros": {},
    }
    settings.manifest_path.parent.mkdir()
    settings.manifest_path.write_text(json.dumps(content))
    (settings.root / "profiles").mkdir()
    (settings.root / "profiles" / "feature_store.local.yaml").write_text(STORE)


STORE = """project: shop
offline_store: {type: runner.warehouse.postgres.offline_store.PointInTimePostgreSQLOfflineStore}
"""


def dbt_model(
    name: str, schema: str, database: str, meta: dict[str, Any], columns: dict[str, str]
) -> dict[str, Any]:
    return {
        "resource_type": "model",
        "name": name,
        "fqn": ["shop", schema, name],
        "database": database,
        "schema": schema,
        "alias": name,
        "description": f"One row per {name}.",
        "patch_path": f"shop://models/{schema}/{name}.yml",
        "original_file_path": f"models/{schema}/{name}.sql",
        "tags": [],
        "raw_code": "",
        "config": {"meta": meta},
        "columns": {
            column: {"name": column, "data_type": kind, "description": ""}
            for column, kind in columns.items()
        },
    }


class Month:
    """A project with a champion, and the answers that it gave in a month."""

    def __init__(self, folder: Any, address: Any, days: int = DAYS) -> None:
        self.folder = folder
        (folder / "recipes").mkdir()
        self.path = folder / "recipes" / "m.yaml"
        slices = "slices: ['activity:country', 'activity:is_member']\n"
        training = train(folder, make_recipe(self.path, more=slices))
        env = {f"PG{name.upper()}": str(value) for name, value in address.conninfo.items()}
        env |= {"PGDATABASE": address.database, "REDIS_URL": "redis://127.0.0.1:1/0"}
        env |= training.prepared.settings.env
        object.__setattr__(training.prepared.settings, "env", env)
        self.settings = training.prepared.settings
        self.run_id = self.register(training)
        registry.promote(registry.connect(self.settings), "m", "1")
        self.path.write_text(self.path.read_text().replace("embargo: 0d", "embargo: 7d"))
        write_manifest(self.settings)
        self.sql = psycopg.connect(**address.conninfo, autocommit=True)
        self.sql.execute(TABLES)
        self.model, _ = load_version(self.settings, "models:/m/1")
        self.tables = [self.day(day) for day in range(days)]
        for day, table in enumerate(self.tables):
            rows = self.rows(table, START + timedelta(days=day))
            write(self.settings, rows)
            truth = np.array(answers(self.model, self.features_of(day)))
            self.add_outcomes(rows, truth if day < WORSE else 1 - truth, seed=day)

    def register(self, training: Training) -> str:
        """Record a training and register its version; return the run's id."""
        client = registry.connect(self.settings)
        with TemporaryDirectory() as artifacts:
            run_id, digest = tracking.record(client, changed(training), Path(artifacts))
            tracking.register(client, run_id, digest, training)
        return run_id

    def add_outcomes(self, rows: list[list[Any]], likely: Any = None, seed: int = 0) -> None:
        """Draw each row's label with its predicted probability, or with another one."""
        random = np.random.default_rng(seed)
        with self.sql.cursor().copy(f"copy outcome.outcome_y ({OUTCOME}) from stdin") as copy:
            for i, row in enumerate(dict(zip(LOGGED, row, strict=True)) for row in rows):
                share = json.loads(row["probabilities"])["1"] if likely is None else likely[i]
                y = int(random.random() < share)
                keys = json.loads(row["entity_keys"])
                taken = [row[name] for name in ("served_at", *OUTCOME.split(", ")[2:-1])]
                copy.write_row([keys["user_id"], *taken, y])

    def skew(self, day: datetime, bundle: Bundle | None = None) -> dict[str, FeatureSkew]:
        window = Window("m", "1", self.run_id, day, day + timedelta(days=1))
        manifest, recipe = load_manifest(self.settings.manifest_path), load_recipe(self.path)
        as_of = open_as_of(self.settings, manifest, recipe)
        with open_served_log(self.settings, PREDICTIONS) as reader:
            log = ServedLog(reader, window)
            found = traffic_skew(log, bundle or self.model.bundle, manifest, as_of)
        return {each.feature: each for each in found}

    def add_mart_row(self, user: int, at: datetime, features: dict[str, Any]) -> None:
        values = [features[f"activity__{name}"] for name in FEATURE_COLUMNS]
        self.sql.execute(
            "insert into feature_mart.activity values (%s, %s, %s, %s, %s, %s)", [user, at, *values]
        )

    @staticmethod
    def features_of(number: int) -> pa.Table:
        """Return what is true on a day."""
        return feature_table(ROWS, seed=100 + number)

    @classmethod
    def day(cls, number: int) -> pa.Table:
        """Return a day's features as served; from one day on, the value has another unit."""
        table = cls.features_of(number)
        if number < BREAK:
            return table
        place = table.column_names.index(VALUE)
        return table.set_column(place, VALUE, pc.multiply(table[VALUE], 100.0))

    def rows(self, table: pa.Table, day: datetime, **changes: Any) -> list[list[Any]]:
        probabilities = answers(self.model, table)
        return list(
            answered(table, day, probabilities=probabilities, **{"run_id": self.run_id} | changes)
        )


def answers(model: Model, table: pa.Table) -> list[float]:
    times = pa.array([START] * table.num_rows, pa.timestamp("us", "UTC"))
    columns = {name: table[name] for name in table.column_names} | {"event_timestamp": times}
    found = model.score(columns).probabilities
    assert found is not None
    return [float(share) for share in found[:, 1]]
