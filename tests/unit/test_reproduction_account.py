"""What is told of a training that was done again."""

import dataclasses
from pathlib import Path

import pytest

from runner.commands.models.reproduction_account import (
    Line,
    code_account,
    code_lines,
    data_account,
    data_lines,
    score_account,
    score_lines,
)
from runner.modelling.environment import environment
from runner.modelling.model_inputs import ModelColumn
from runner.modelling.training_data import table_digest
from runner.project.manifest import Manifest
from runner.records.recorded_run import RecordedRun
from tests.modelling import make_recipe
from tests.unit.test_table_comparison import THEN, table

NO_SEED = "sklearn.ensemble.RandomForestClassifier, init_args: {n_estimators: 5}"
MODEL = "model.shop.user_activity"


@pytest.fixture
def recorded(tmp_path):
    return RecordedRun(
        run_id="0" * 32,
        recipe=make_recipe(tmp_path / "recipe.yaml"),
        tags={
            "git_commit": "abc",
            "dbt_manifest_sha256": "m",
            "dataset_sha256": table_digest(THEN),
        },
        scores={"train_roc_auc": 0.9, "test_roc_auc": 0.8},
        join_keys=("user_id",),
        inputs=(ModelColumn("v__x", "float64"),),
        rows=THEN,
        sql_digests={MODEL: "a", "macro.dbt.x": "b"},
        environment=environment(),
    )


def manifest(sha256, **digests):
    return Manifest(Path("m"), "shop", {}, {}, sha256, {MODEL: "a", "macro.dbt.x": "b"} | digests)


def differing(lines):
    return [line.what for line in lines if not line.same]


def test_the_same_project_has_nothing_to_tell(recorded):
    lines = code_lines(recorded, "abc", manifest("m"))
    assert differing(lines) == []
    assert list(code_account(lines)) == []


def test_dbt_models_that_changed_are_named_and_other_packages_as_a_whole(recorded):
    lines = code_lines(recorded, "abc", manifest("n", **{MODEL: "z", "macro.dbt.x": "z"}))
    assert differing(lines) == ["dbt project", "dbt model user_activity", "dbt package dbt"]
    assert "dbt model user_activity, dbt package dbt" in next(code_account(lines))


def test_an_older_run_tells_only_that_the_project_changed(recorded):
    older = dataclasses.replace(recorded, sql_digests=None, environment=None)
    lines = code_lines(older, "abc", manifest("n"))
    assert {line.then for line in lines[2:]} == {"not recorded"}
    assert "what in it, is not recorded" in next(code_account(lines))


def test_a_project_that_dbt_cannot_read_is_another_project(recorded):
    assert differing(code_lines(recorded, "abc", None)) == ["dbt project"]


def test_changes_that_were_not_committed_are_told(recorded):
    dirty = dataclasses.replace(recorded, tags={**recorded.tags, "git_commit": "abc-dirty"})
    lines = code_lines(dirty, "abc-dirty", manifest("m"))
    assert list(code_account(lines)) == ["the run trained with changes that were not committed"]


def test_the_same_rows_are_said_to_be_the_same(recorded):
    assert differing(data_lines(recorded, THEN)) == []
    [said] = data_account(recorded, THEN, "")
    assert said == "the 3 rows joined now are those the run trained on"


def test_rows_that_differ_are_told_as_the_comparison_tells_them(recorded):
    now = table((1, 0, 0, 0.5), (1, 1, 1, 7.0), (2, 1, 0, float("nan")))
    assert differing(data_lines(recorded, now)) == ["joined rows"]
    assert list(data_account(recorded, now, "")) == ["1 of the 3 recorded rows changed: v__x in 1"]


def test_rows_that_cannot_be_joined_say_why(recorded):
    assert differing(data_lines(recorded, None)) == ["joined rows"]
    assert list(data_account(recorded, None, "no x")) == ["the rows cannot be joined again: no x"]


def test_recorded_rows_that_were_tampered_with_are_found(recorded):
    tampered = dataclasses.replace(recorded, rows=THEN.slice(1))
    assert differing(data_lines(tampered, THEN)) == ["recorded rows"]
    assert "it was changed" in next(data_account(tampered, THEN, ""))


def test_rows_with_other_keys_are_told_and_not_raised(recorded):
    [said] = data_account(recorded, THEN.drop_columns(["user_id"]), "")
    assert "user_id was int64 and is not there now" in said


def scored(recorded, code=(), test=0.8):
    lines = score_lines(recorded, {"train_roc_auc": 0.9, "test_roc_auc": test})
    return list(score_account(recorded, code, lines))


def test_a_score_is_the_same_only_to_the_last_digit(recorded):
    assert "every score is the same" in scored(recorded)[0]
    assert "1 of 2 scores differ, by 1.1e-16 at most" in scored(recorded, test=0.8 + 1e-16)[0]


def test_a_missing_random_state_is_the_reason_told(recorded, tmp_path):
    drawn = dataclasses.replace(recorded, recipe=make_recipe(tmp_path / "r.yaml", NO_SEED))
    assert "no random_state" in scored(drawn, test=0.7)[1]
    assert len(scored(drawn)) == len(scored(recorded, test=0.7)) == 1


def test_other_libraries_are_the_reason_told(recorded):
    code = [Line("scikit-learn", "1.0", "1.8.0"), Line("git commit", "a", "b")]
    assert scored(recorded, code, 0.7)[1] == "the environment differs: scikit-learn 1.0 → 1.8.0"


def test_of_a_digest_only_the_beginning_is_shown():
    assert Line("x", "a" * 64, 0.1 + 0.2).shown == ("a" * 12, "0.30000000000000004")
