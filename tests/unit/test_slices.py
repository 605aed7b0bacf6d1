"""Scores by slice: every test row is in one part, and a part not scored says why."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from contract.predictions import Predictions
from runner.modelling.bootstrap import Interval
from runner.modelling.contender import Contender
from runner.modelling.slices import Slice, markdown, score_slices, summaries
from tests.modelling import SPINE, make_recipe
from tests.trainings import training_data


@pytest.fixture
def scored(tmp_path):
    """Score slices of 96 test rows, whose probabilities are what the label depends on."""

    def score(names, column=None, scoring="roc_auc, f1"):
        data = training_data()
        if column is not None:
            name, values = column
            data = dataclasses.replace(data, table=data.table.append_column(name, values))
        share = 1 / (1 + np.exp(-data.test.X["activity__value"].to_numpy(np.float64)))
        predictions = Predictions((share > 0.5).astype(int), np.column_stack([1 - share, share]))
        more = f"slices: [{names}]\n"
        recipe = make_recipe(tmp_path / "recipe.yaml", scoring=scoring, more=more)
        contender = Contender("m", "roc_auc", SPINE, data, predictions, [0, 1])
        return data, share, score_slices(recipe, contender)

    return score


def test_a_slice_is_scored_on_its_own_rows(scored):
    data, share, slices = scored('"activity:country"')
    assert [(each.value, each.rows) for each in slices] == [("de", 48), ("(null)", 24), ("fr", 24)]
    assert sum(each.rows for each in slices) == len(data.test.y)
    _, _, [no, yes] = scored("half", ("half", pa.array([True, False] * 200)))
    assert {no.value, yes.value} == {"false", "true"}
    assert [no.rows, yes.rows] == [48, 48]
    assert no.reasons == {"roc_auc": "fewer than 50 rows", "f1": "fewer than 50 rows"}
    _, _, [whole] = scored("one", ("one", pa.array([7] * 400)))
    assert whole.scores["roc_auc"].value == roc_auc_score(data.test.y, share)
    assert whole.scores["f1"].low < whole.scores["f1"].value < whole.scores["f1"].high


def test_rows_of_one_class_say_so(scored, monkeypatch):
    monkeypatch.setattr("runner.modelling.slices.MIN_ROWS", 10)
    y = training_data().table["y"].combine_chunks()
    _, _, slices = scored("same", ("same", y.cast(pa.string())))
    assert {each.value: each.reasons["roc_auc"] for each in slices} == {
        "0": "y is 0 in every row",
        "1": "y is 1 in every row",
    }


def test_the_rarest_values_are_one_part(scored):
    _, _, slices = scored("many", ("many", pa.array([i % 30 for i in range(400)])))
    assert len(slices) == 21
    assert slices[-1].value == "(10 others)"
    assert sum(each.rows for each in slices) == 96


def part(value, score=None, rows=100):
    if score is None:
        return Slice("s", value, 10, {}, {"f1": "fewer than 50 rows"})
    return Slice("s", value, rows, {"f1": Interval(score, score - 0.1, score + 0.1)}, {})


def test_the_summary_names_the_lowest_and_counts_what_is_not_scored():
    [summary] = summaries([part("a", 0.8), part("b", 0.5, 1200), part("c")], "f1")
    assert summary.cells == ["s", "3", "1", "b", "1,200", "0.5000", "0.4000 to 0.6000"]
    [nothing] = summaries([part("c")], "f1")
    assert nothing.cells == ["s", "1", "1", "–", "–", "–", "–"]


def test_the_table_has_a_line_per_value_and_the_reason_where_there_is_no_score():
    lines = markdown([part("a|b", 0.8), part("c")], ["f1"]).splitlines()
    assert lines[2] == "| s | a\\|b | 100 | 0.8000 [0.7000, 0.9000] |"
    assert lines[3] == "| s | c | 10 | fewer than 50 rows |"


def test_a_recipe_without_slices_has_none(tmp_path):
    assert score_slices(make_recipe(tmp_path / "recipe.yaml"), None) == []
