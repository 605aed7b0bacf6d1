"""One missing rule for rows and columns, whatever library a column comes from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.bundle_reader import read_bundle
from contract.predictions import class_labels
from contract.scoring import Model, load_model
from contract.serving_errors import BundleError, FeatureRangeError
from contract.tensors import float_tensor, text_tensor
from tests.serving_bundles import FEATURES, manifest, write_bundle, write_linear_bundle

NAMES = [f"{view}__{feature}" for view, feature, *_ in FEATURES]
INT64 = st.integers(-(2**63), 2**63 - 1)


def _model(folder: Path, **changes: Any) -> Model:
    write_linear_bundle(folder, **changes)
    return load_model(read_bundle(folder))


@pytest.fixture(name="model", scope="module")
def _shared_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return _model(tmp_path_factory.mktemp("bundle"))


def test_a_row_is_scored_with_label_and_probabilities(model: Model) -> None:
    predictions = model.score_rows([[1, "NL", 0, True, 0.5], [-3, "BE", 0, False, 0.5]])
    assert predictions.labels.tolist() == [1, 0]
    assert predictions.probabilities is not None
    expected = [1 / (1 + np.exp(-2 * 2.5)), 1 / (1 + np.exp(2 * 2.5))]
    assert predictions.probabilities[:, 1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("threshold", "classes"), [(0.0, [1, 1]), (0.5, [1, 0]), (0.999, [0, 0])])
def test_a_decision_threshold_gives_the_class_and_leaves_the_probabilities(
    model: Model, tmp_path: Path, threshold: float, classes: list[int]
) -> None:
    label = {"name": "y", "classes": [0, 1], "decision_threshold": threshold}
    decided = _model(tmp_path, label=label, format_version=2)
    rows = [[1, "NL", 0, True, 0.5], [-3, "BE", 0, False, 0.5]]
    predictions = decided.score_rows(rows)
    assert predictions.labels.tolist() == classes
    assert predictions.probabilities is not None
    plain = model.score_rows(rows).probabilities
    assert plain is not None
    assert predictions.probabilities.tolist() == plain.tolist()
    assert decided.score_rows([]).labels.dtype == predictions.labels.dtype


def test_a_probability_as_it_is_shown_reaches_the_threshold_that_is_written_alike() -> None:
    shown = np.array([[0.3, 0.7], [0.7, 0.3]], dtype=np.float32)  # a little below 0.7 in float64
    assert float(shown[0, 1]) < 0.7
    assert class_labels(shown, ["no", "yes"], 0.7).tolist() == ["yes", "no"]


def test_missing_values_reach_the_model_as_nan_and_empty_text(model: Model) -> None:
    predictions = model.score_rows([[None] * 5])
    assert predictions.probabilities is not None
    assert predictions.probabilities.tolist() == [[0.5, 0.5]]  # the model imputes 0


def test_a_regression_has_values_and_no_probabilities(tmp_path: Path) -> None:
    model = _model(tmp_path, task="regression", intercept=10.0)
    predictions = model.score_rows([[1, "NL", 2, None, 0.5]])
    assert predictions.labels.tolist() == [13.5]
    assert predictions.probabilities is None
    assert model.score_rows([]).labels.shape == (0,)


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-100, 100),
            st.none() | st.text(max_size=5),
            st.none() | st.integers(-100, 100),
            st.none() | st.booleans(),
            st.none() | st.floats(-100, 100),
        ),
        max_size=8,
    )
)
def test_rows_and_columns_are_scored_alike(model: Model, rows: list[tuple[Any, ...]]) -> None:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(NAMES)}
    by_row, by_column = model.score_rows(rows), model.score(columns)
    assert by_row.labels.tolist() == by_column.labels.tolist()
    assert by_row.probabilities is not None
    assert by_column.probabilities is not None
    assert by_row.probabilities.tolist() == by_column.probabilities.tolist()


@given(st.lists(st.lists(st.floats(-100, 100), min_size=2, max_size=2), max_size=8))
def test_an_array_and_its_rows_are_scored_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]
) -> None:
    kept = [feature | {"dtype": "float64"} for feature in manifest()["features"][2:4]]
    model = _model(tmp_path_factory.mktemp("numbers"), features=kept)
    by_row, by_array = model.score_rows(rows), model.score_rows(np.array(rows).reshape(-1, 2))
    assert by_row.labels.tolist() == by_array.labels.tolist()
    assert by_row.probabilities is not None
    assert by_array.probabilities is not None
    assert by_row.probabilities.tolist() == by_array.probabilities.tolist()


@given(st.lists(st.none() | INT64, min_size=1))
def test_an_integer_column_is_rounded_alike_in_every_library(values: list[int | None]) -> None:
    expected = np.array(
        [np.nan if v is None else np.float32(float(v)) for v in values], dtype=np.float32
    )
    arrow = pa.array(values, pa.int64())
    series = pd.Series(values, dtype="Int64")
    for column in (values, arrow, pa.chunked_array([arrow]), series, series.astype(object)):
        tensor = float_tensor([column])
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor[:, 0], expected)


@pytest.mark.parametrize(
    "column",
    [
        [True, None, False],
        np.array([1.0, np.nan, 0.0]),
        pa.array([True, None, False]),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([1.0, np.nan, 0.0]),
        pd.Series([True, None, False], dtype=object),
    ],
)
def test_flags_become_one_and_zero_and_nulls_nan(column: Any) -> None:
    assert float_tensor([column])[:, 0].tolist() == pytest.approx([1.0, np.nan, 0.0], nan_ok=True)


@pytest.mark.parametrize(
    "column",
    [
        ["a", None, ""],
        np.array(["a", None, ""], dtype=object),
        pa.array(["a", None, ""]),
        pa.chunked_array([pa.array(["a", None, ""])]),
        pd.Series(["a", None, ""], dtype="string"),
        pd.Series(["a", np.nan, ""], dtype=object),
    ],
)
def test_missing_text_becomes_empty_text(column: Any) -> None:
    assert text_tensor([column])[:, 0].tolist() == ["a", "", ""]


def test_a_number_in_a_text_column_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="expected text, got int"):
        text_tensor([["a", 5]])


@pytest.mark.parametrize("number", [1e39, -math.inf])
def test_a_column_with_a_number_that_no_model_can_take_is_named(
    model: Model, number: float
) -> None:
    columns: dict[str, Any] = {name: [None] * 3 for name in NAMES}
    columns["user_category_affinity__views_30d"] = [1.0, number, math.nan]
    message = "user_category_affinity__views_30d, in 1 of 3 rows: .* is not between -3.4e[+]38 and"
    with pytest.raises(FeatureRangeError, match=message):
        model.score(columns)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, b"not a model", manifest())
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be loaded"):
        load_model(read_bundle(tmp_path))


def test_a_model_with_other_inputs_than_declared_is_refused(tmp_path: Path) -> None:
    features = [f for f in manifest()["features"] if f["dtype"] != "string"]
    write_linear_bundle(tmp_path, features=features)
    _redeclare(tmp_path, features=manifest()["features"], model=None)
    with pytest.raises(BundleError, match=r"takes \{'numeric': .*\}, serving.json says"):
        load_model(read_bundle(tmp_path))


@pytest.mark.parametrize("classes", [[0, 1, 2], ["no", "yes"]])
def test_a_model_with_other_classes_than_declared_is_refused(
    tmp_path: Path, classes: list[Any]
) -> None:
    write_linear_bundle(tmp_path, label={"name": "x", "description": "", "classes": classes})
    with pytest.raises(BundleError, match="expected classes"):
        load_model(read_bundle(tmp_path))


def _redeclare(folder: Path, **changes: Any) -> None:
    """Change serving.json, keeping the model file and its digest."""
    content = json.loads((folder / "serving.json").read_text())
    changes = {name: value for name, value in changes.items() if value is not None}
    inputs = manifest()
    content |= changes
    from tests.serving_bundles import inputs_of

    content["model"]["inputs"] = inputs_of(inputs | changes)
    (folder / "serving.json").write_text(json.dumps(content))
