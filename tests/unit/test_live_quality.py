"""Live scores: the texts of the warehouse as labels, for each kind of label."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

from contract.bundle import Label
from contract.bundle_reader import read_bundle
from runner.monitoring.labelled_rows import LabelledRows
from runner.monitoring.live_scores import Judge
from runner.monitoring.live_slices import slice_columns
from runner.project.manifest import MartColumn
from tests.modelling import REGRESSOR, SPINE, make_recipe
from tests.serving_bundles import write_linear_bundle

N = 200


def labelled(labels, predictions, probabilities=None):
    """Return rows of 100 entities, two each."""
    shares = np.empty((N, 0)) if probabilities is None else probabilities
    texts = (["2026-03-01"] * N, [str(i // 2) for i in range(N)], labels, predictions)
    columns = (np.array(list(map(str, each)), np.str_) for each in texts)
    return LabelledRows(*columns, shares, np.empty((N, 0), np.str_))


def test_flags_are_the_classes_0_and_1(tmp_path):
    random = np.random.default_rng(0)
    y, share = random.integers(2, size=N), random.random(N)
    rows = labelled(
        ["true" if one else "false" for one in y],
        (share > 0.5).astype(int),
        np.column_stack([1 - share, share]),
    )
    recipe = make_recipe(tmp_path / "r.yaml", scoring="roc_auc, accuracy")
    scores, reasons = Judge(recipe, Label("y", classes=(0, 1))).scored(rows)
    assert reasons == {}
    assert scores["roc_auc"].value == pytest.approx(roc_auc_score(y, share))
    assert scores["accuracy"].value == accuracy_score(y, share > 0.5)


def test_texts_are_classes(tmp_path):
    random = np.random.default_rng(0)
    names = np.array(["a", "b", "true"])
    y, said = random.choice(names, N), random.choice(names, N)
    rows = labelled(y, said, np.full((N, 3), 1 / 3))
    recipe = make_recipe(tmp_path / "r.yaml", scoring="accuracy")
    scores, _ = Judge(recipe, Label("y", classes=("a", "b", "true"))).scored(rows)
    assert scores["accuracy"].value == accuracy_score(y, said)


def test_numbers_are_values_and_few_rows_are_not_scored(tmp_path):
    random = np.random.default_rng(0)
    y = random.normal(size=N)
    said = y + random.normal(size=N) / 2
    recipe = make_recipe(tmp_path / "r.yaml", REGRESSOR, "r2", "regression")
    rows = labelled(y, said)
    scores, _ = Judge(recipe, Label("y")).scored(rows)
    assert scores["r2"].value == pytest.approx(r2_score(y, said))
    assert scores["r2"].low < scores["r2"].value < scores["r2"].high
    few, reasons = Judge(recipe, Label("y")).scored(rows.of(np.arange(N) < 49))
    assert (few, reasons) == ({}, {"r2": "fewer than 50 rows"})


def test_a_label_that_the_version_has_no_class_for_is_the_reason_for_no_score(tmp_path):
    labels = ["a", "b"] * (N // 2 - 1) + ["a", "new"]
    rows = labelled(labels, ["a"] * N, np.full((N, 2), 1 / 2))
    recipe = make_recipe(tmp_path / "r.yaml", scoring="roc_auc, accuracy")
    scores, reasons = Judge(recipe, Label("y", classes=("a", "b"))).scored(rows)
    why = "'new' is not one of the version's classes"
    assert (scores, reasons) == ({}, {"roc_auc": why, "accuracy": why})


def test_slices_are_in_the_log_or_the_outcome_model_and_never_personal_data(tmp_path):
    more = "slices: ['activity:country', 'activity:value', user_id, band, cohort]\n"
    recipe = make_recipe(tmp_path / "r.yaml", more=more)
    bundle = read_bundle(tmp_path / "b", write_linear_bundle(tmp_path / "b"))
    country, value, *_ = bundle.features
    features = (
        replace(country, name="activity__country"),
        replace(value, name="activity__value", pii=True),
    )
    outcome = replace(SPINE, columns={"band": MartColumn("band", "string", "")})
    columns, absent = slice_columns(recipe, replace(bundle, features=features), outcome)
    assert [each.place for each in columns] == [
        ("features", "activity__country"),
        ("entity_keys", "user_id"),
        ("", "band"),
    ]
    assert absent == {
        "activity:value": "it is personal data",
        "cohort": "neither the serving log nor spine_y has it",
    }
