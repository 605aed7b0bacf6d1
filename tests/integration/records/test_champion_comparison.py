"""A new version is compared with the champion, and replaces it or does not."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contract.predictions import Predictions
from runner.commands.training.champion_comparison import compare_with_champion
from runner.modelling.contender import NO_CHAMPION, Contender, score_intervals
from runner.modelling.split import split_by_time
from runner.modelling.training_data import Rows
from runner.project.manifest import MartColumn
from runner.records import registry, tracking
from tests.modelling import MART, SPINE, rows
from tests.recorded_trainings import aliases, registered
from tests.trainings import changed


def compared(client, training, predictions=None):
    """Compare with the champion; `predictions` of the test rows in place of the model's own."""
    served = training.model.served.answer(training.prepared.data.test.X)
    contender = Contender(
        "m", "roc_auc", SPINE, training.prepared.data, predictions or served, [0, 1]
    )
    return compare_with_champion(
        training.prepared.settings, client, None, training.prepared.manifest, contender
    )


def test_every_scorer_has_an_interval_on_the_test_rows(training):
    served = training.model.served.answer(training.prepared.data.test.X)
    contender = Contender("m", "roc_auc", SPINE, training.prepared.data, served, [0, 1])
    intervals = score_intervals(contender, ["roc_auc", "accuracy"])
    assert intervals["accuracy"].value == pytest.approx(
        training.model.pipeline.score(*training.prepared.data.test)
    )
    assert all(found.low < found.value < found.high for found in intervals.values())


def perfect(training):
    y = training.prepared.data.test.y
    return Predictions(y, np.column_stack([1 - y, y]).astype(np.float32))


def test_the_first_version_has_nobody_to_beat(client, training):
    assert compared(client, training) == NO_CHAMPION


def test_the_same_model_again_becomes_the_challenger(client, training, champion, tmp_path):
    comparison = compared(client, training)
    assert comparison.metrics["champion_difference_low"] == 0
    assert comparison.metrics["champion_difference_high"] == 0
    again = changed(training, comparison=comparison)
    (tmp_path / "again").mkdir()
    run_id, version = registered(client, again, tmp_path / "again")
    [refusal] = tracking.award(client, again, version)
    assert "not better by more than noise" in refusal
    assert again.model.comparison.summary == "version 1: no clear difference"
    assert client.get_model_version("m", version).tags["gate_reason"] == refusal
    assert aliases(client) == {"champion": "1", "challenger": "2"}
    assert client.get_run(run_id).data.params["bootstrap_seed"] == "0"


def test_a_better_model_becomes_the_champion(client, training, champion, tmp_path):
    better = changed(training, comparison=compared(client, training, perfect(training)))
    assert better.model.comparison.metrics["champion_difference_low"] > 0
    (tmp_path / "again").mkdir()
    _, version = registered(client, better, tmp_path / "again")
    assert tracking.award(client, better, version) == ()
    assert aliases(client) == {"champion": "2"}
    assert client.get_model_version("m", version).tags["champion_comparison"] == "better"


def test_a_challenger_that_is_clearly_worse_is_called_worse(client, training, champion, tmp_path):
    y = training.prepared.data.test.y
    wrong = Predictions(1 - y, np.column_stack([y, 1 - y]).astype(np.float32))
    worse = changed(training, comparison=compared(client, training, wrong))
    assert worse.model.comparison.summary == "version 1: worse"
    (tmp_path / "again").mkdir()
    run_id, version = registered(client, worse, tmp_path / "again")
    [refusal] = tracking.award(client, worse, version)
    assert refusal.endswith("test rows: worse by more than noise")
    for tags in (client.get_run(run_id).data.tags, client.get_model_version("m", version).tags):
        assert tags["champion_comparison"] == "worse"


def test_a_champion_whose_files_changed_is_not_loaded_and_not_replaced(client, training, champion):
    path = Path(champion.info.artifact_uri.removeprefix("file://")) / "serving_bundle/model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    comparison = compared(client, training, perfect(training))
    assert "(version 1) cannot be compared" in comparison.refusal
    assert "does not match the SHA-256" in comparison.refusal


def test_a_champion_whose_feature_is_gone_from_dbt_is_not_replaced(client, training, champion):
    table = training.prepared.data.table.drop_columns(["activity__value"])
    data = dataclasses.replace(training.prepared.data, table=table)
    columns = {name: column for name, column in MART.columns.items() if name != "value"}
    marts = {"activity": dataclasses.replace(MART, columns=columns)}
    gone = dataclasses.replace(training.prepared.manifest, marts=marts)
    other = changed(training, data=data, manifest=gone)
    refusal = compared(client, other, perfect(training)).refusal
    assert "dbt has no activity:value any more" in refusal


def retyped(training, name, dtype, column=None):
    """Return the training where dbt has the feature in another type; no column: it has none."""
    columns = {**MART.columns, name: MartColumn(name, dtype, "")}
    mart = dataclasses.replace(MART, columns=columns)
    table = training.prepared.data.table.drop_columns([f"activity__{name}"])
    if column is not None:
        table = table.append_column(f"activity__{name}", column)
    return changed(
        training,
        data=dataclasses.replace(training.prepared.data, table=table),
        manifest=dataclasses.replace(training.prepared.manifest, marts={"activity": mart}),
    )


@pytest.mark.parametrize("is_joined", [True, False])
@pytest.mark.parametrize(
    ("name", "was", "dtype", "value"),
    [("value", "float64", "string", "much"), ("country", "string", "int64", 49)],
)
def test_a_champion_whose_feature_has_another_type_is_not_replaced(
    client, training, champion, name, was, dtype, value, is_joined
):
    column = pa.array([value] * 400) if is_joined else None
    refusal = compared(client, retyped(training, name, dtype, column), perfect(training)).refusal
    assert f"activity:{name} was {was} and is {dtype} now" in refusal


def test_a_number_of_another_type_is_compared(client, training, champion):
    orders = training.prepared.data.table["activity__orders_7d"].cast(pa.float64())
    again = retyped(training, "orders_7d", "float64", orders)
    assert compared(client, again).metrics["champion_difference"] == 0


def test_a_champion_whose_marts_dbt_cannot_build_is_not_replaced(client, training, champion):
    table = training.prepared.data.table.drop_columns(["activity__value"])
    # A build for PostgreSQL would ask it for the lock first; there is none here.
    settings = dataclasses.replace(training.prepared.settings, target="cloud")
    data = dataclasses.replace(training.prepared.data, table=table)
    other = changed(training, data=data, settings=settings)
    comparison = compared(client, other, perfect(training))  # there is no dbt project
    assert "(version 1) cannot be compared: " in comparison.refusal
    assert "profiles.yml: no such file" in comparison.refusal
    assert comparison.version == "1"


def test_only_rows_that_the_champion_cannot_have_seen_are_compared(client, training, champion):
    early = split_by_time(
        training.prepared.data.table["event_timestamp"],
        test=timedelta(days=10),
        embargo=timedelta(0),
        label_window=timedelta(0),
    )
    X, y = rows()
    longer = dataclasses.replace(
        training.prepared.data, test=Rows(X[early.test], y[early.test]), split=early
    )
    wider = changed(training, data=longer)
    metrics = compared(client, wider).metrics
    assert metrics["n_champion_rows"] == len(training.prepared.data.test.y) < early.test.sum()


def test_a_champion_that_changed_meanwhile_is_not_replaced(client, training, champion, tmp_path):
    beaten = changed(training, comparison=compared(client, training, perfect(training)))
    for number in ("2", "3"):
        (tmp_path / number).mkdir()
        _, version = registered(client, beaten, tmp_path / number)
        if version == "2":
            registry.promote(client, "m", "2")
    [refusal] = tracking.award(client, beaten, "3")
    assert refusal == "the champion became version 2 while this model was trained"
    assert client.get_model_version("m", "3").tags["gate"] == "refused"
    assert aliases(client) == {"champion": "2", "challenger": "3"}
