"""Finished trainings of made-up rows, for tests of what is recorded of them."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from contract.bundle_reader import read_bundle
from contract.explained import BundleExplanation
from runner.lineage.feature_definitions import Definitions, FeatureDefinitions
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.modelling.bootstrap import Interval
from runner.modelling.contender import NO_CHAMPION, Contender
from runner.modelling.evaluation import as_served, evaluate
from runner.modelling.fitted_model import fit_model
from runner.modelling.slices import score_slices
from runner.modelling.split import split_by_time
from runner.modelling.training_data import Rows, TrainingData, split_rows, table_digest
from runner.modelling.tuning_search import tune
from runner.packaging.bundle_writer import write_bundle
from runner.packaging.explanation import ServedExplanation
from runner.packaging.served_model import class_list, served_model
from runner.project.manifest import Manifest
from runner.records.run_record import JudgedModel, PreparedRows, Training
from runner.settings import Settings
from tests.modelling import FEATURES, MART, SPINE, feature_table, rows

START = datetime(2026, 1, 1, tzinfo=UTC)
# orders_7d is known to come from a raw column; of the others nothing is known.
COLUMNS = Lineage(
    {LineageColumn("activity", "orders_7d"): (LineageColumn("raw_data.orders", "id"),)},
    frozenset({"raw_data.orders"}),
    {LineageColumn("activity", "value"): "it is not SQL"},
)


def project(folder):
    """Return the settings of a project outside git, with MLflow in its `mlruns`."""
    (folder / "dbt_project.yml").write_text("name: shop\n")
    return Settings("local", folder, {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"})


def training_data(seed=0):
    """Return 400 rows an hour apart, of which the last 4 days test."""
    X, y = rows(seed=seed)
    stamps = [START + timedelta(hours=i) for i in range(len(X))]
    table = feature_table(seed=seed)
    for name, column in (
        ("y", pa.array(y)),
        ("event_timestamp", pa.array(stamps, pa.timestamp("us", "UTC"))),
        ("user_id", pa.array(range(len(X)), pa.int64())),
    ):
        table = table.add_column(0, name, column)
    none = timedelta(0)
    split = split_by_time(
        table["event_timestamp"], test=timedelta(days=4), embargo=none, label_window=none
    )
    train, test = Rows(X[split.train], y[split.train]), Rows(X[split.test], y[split.test])
    return TrainingData(table, train, test, split)


UNEXPLAINED = ServedExplanation(BundleExplanation(unavailable="not made here"))
NO_DEFINITIONS = FeatureDefinitions(Definitions("postgres", {}, {}), {})


def train(folder, recipe):
    """Return a finished training of the recipe on the made-up rows."""
    started_at, settings = datetime.now(UTC), project(folder)
    data = split_rows(recipe, training_data().table, FEATURES, label_window=timedelta(0))
    tuned = tune(settings, recipe, data)
    pipeline = fit_model(recipe.with_arguments(tuned.arguments), data)
    served = served_model(pipeline, data.test.X)
    classes = class_list(pipeline)
    trained, predictions = (served.answer(part.X) for part in (data.train, data.test))
    contender = Contender("m", recipe.scoring[0], SPINE, data, predictions, classes)
    prepared = PreparedRows(
        settings=settings,
        manifest=Manifest(folder / "manifest.json", "shop", {"activity": MART}, {}, "0" * 64),
        recipe=recipe,
        feast_project="shop",
        spine=SPINE,
        features=FEATURES,
        request=[],
        computed=(),
        data=data,
        dataset_sha256=table_digest(data.table),
        started_at=started_at,
        columns=COLUMNS,
        definitions=NO_DEFINITIONS,
        billed={},
    )
    model = JudgedModel(
        tuned=tuned,
        pipeline=pipeline,
        served=served,
        evaluation=evaluate(
            recipe,
            as_served(trained, classes, data.train.y),
            as_served(predictions, classes, data.test.y),
        ),
        comparison=NO_CHAMPION,
        intervals={"roc_auc": Interval(0.8, 0.7, 0.9)},
        slices=score_slices(recipe, contender),
    )
    return Training(prepared, model)


def written_bundle(
    folder, recipe, served, classes=(0, 1), features=FEATURES, explanation=UNEXPLAINED
):
    """Write a bundle and read it back as serving does."""
    classes = list(classes) if recipe.task == "classification" else None
    digest = write_bundle(
        folder,
        recipe=recipe,
        spine=SPINE,
        features=features,
        request=[],
        computed=[],
        classes=classes,
        model=served,
        explanation=explanation,
        definitions=NO_DEFINITIONS,
        examples={"user_id": 7},
        run={
            "feast_project": "shop",
            "run_id": "r",
            "created_at": "2026-01-01T00:00:00+00:00",
            "metrics": {},
            "lineage": {},
        },
    )
    return read_bundle(folder, digest)


def changed(training, **changes):
    """Return the training with other values of its rows or its model."""
    parts = {}
    for name in ("prepared", "model"):
        part = getattr(training, name)
        own = {field.name for field in dataclasses.fields(part)}
        mine = {key: value for key, value in changes.items() if key in own}
        parts[name] = dataclasses.replace(part, **mine)
    return Training(**parts)
