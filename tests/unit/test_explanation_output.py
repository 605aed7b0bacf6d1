"""Explanations in files and tables have a column for each input, or JSON in one."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from contract.bundle_reader import read_bundle
from contract.explainer import Explained, load_explainer
from contract.scoring import load_model
from runner.commands.predictions.explanation_output import ExplanationColumns, ExplanationText
from runner.commands.predictions.prediction_file import read_entities
from runner.errors import RunnerError
from tests.serving_bundles import write_linear_bundle

FOUND = Explained(np.array([1.0, 2.0]), np.arange(8.0).reshape(2, 2, 2))
UNANSWERED = np.array([False, True])


def explainer(*classes):
    return SimpleNamespace(inputs=("a", "b"), classes=classes)


def test_each_class_of_several_has_its_own_columns():
    output = ExplanationColumns(explainer("no", "yes"))
    assert output.names == [
        *("base_value_no", "contribution_no_a", "contribution_no_b"),
        *("base_value_yes", "contribution_yes_a", "contribution_yes_b"),
    ]
    columns = [column.to_pylist() for column in output.columns(FOUND, UNANSWERED)]
    assert columns == [[1.0, None], [0.0, None], [2.0, None], [2.0, None], [1.0, None], [3.0, None]]


def test_one_score_has_plain_names():
    assert ExplanationColumns(explainer()).names == [
        "base_value",
        "contribution_a",
        "contribution_b",
    ]


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    return read_bundle(folder, write_linear_bundle(folder, explained=True))


def test_json_is_that_of_the_api_and_null_without_a_prediction(bundle):
    model = load_explainer(bundle, load_model(bundle))
    found = model.rows([[1, "NL", 2, True, 0.5], [1, "NL", 2, True, 0.5]])
    output = ExplanationText(model)
    [answered, unanswered] = output.columns(found, UNANSWERED)[0].to_pylist()
    assert output.names == ("explanation",)
    assert json.loads(answered) == model.answer(found, 0)
    assert unanswered is None


def test_no_rows_have_no_explanations(bundle):
    model = load_explainer(bundle, load_model(bundle))
    found = model.columns({name: [] for name in bundle.row_dtypes})
    assert found.contributions.shape == (0, len(model.inputs), 1)


def test_a_file_with_such_a_column_is_refused(bundle, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("user_id,category_id,base_value\n1,toys,3\n")
    assert "base_value" in read_entities(bundle, path)
    names = ExplanationColumns(load_explainer(bundle, load_model(bundle))).names
    with pytest.raises(RunnerError, match="has a column 'base_value'"):
        read_entities(bundle, path, more=names)
