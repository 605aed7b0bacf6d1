"""Two versions or runs, property by property."""

import dataclasses

import pytest

from runner.commands.models.comparison_report import table
from runner.commands.models.model_comparison import ComparedProperty as Row
from runner.commands.models.model_comparison import compare
from runner.errors import RunnerError
from tests.conftest import postgres_env


def test_two_versions_side_by_side(training, versions, champion, database, redis_url, capsys):
    settings = training.prepared.settings
    known = {
        **postgres_env(database),
        "REDIS_URL": redis_url,
    }
    settings = dataclasses.replace(settings, env={**settings.env, **known})
    found = compare(settings, "m@champion", "m/2")  # no answers were ever collected
    assert "live" not in capsys.readouterr().err
    by_name = {(row.group, row.name): row for row in found}
    assert by_name["run", "id"].a == champion.info.run_id
    assert by_name["run", "id"].differs
    assert not by_name["metrics", "test_roc_auc"].differs
    assert by_name["features", "activity:value"].a == "yes"
    assert by_name["data", "test_from"].a == training.prepared.data.split.test_from.isoformat()
    assert by_name["parameters", "estimator.n_estimators"].b == "5"
    assert by_name["recipe", "feature_overrides"].a == "[]"
    same = compare(settings, champion.info.run_id, "m/1")
    assert not any(row.differs for row in same)


def test_the_table_has_every_metric_and_of_the_rest_what_differs():
    rows = [
        Row("metrics", "test_roc_auc", 0.75, 0.75),
        Row("features", "activity:value", "yes", "yes"),
        Row("features", "activity:other", None, "yes"),
        Row("data", "git_commit", f"{'a' * 40}-dirty", "b" * 40),
        Row("parameters", "estimator.max_depth", "3", "3"),
        Row("parameters", "estimator.max_iter", "3", "3"),
    ]
    cells, same = table(rows)
    assert cells == [
        ["metrics", "test_roc_auc", "", "0.75", "0.75"],
        ["features", "activity:other", "≠", "–", "yes"],
        ["data", "git_commit", "≠", f"{'a' * 12}-dirty", "b" * 12],
    ]
    assert same == "the same in both: features 1, parameters 2; --json has them"
    assert table(rows[:1])[1] == ""


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("m", "neither a model's version nor a run"),
        ("m/9", "MLflow has no m/9"),
        ("m@nobody", "MLflow has no m@nobody"),
        ("o'x@champion", 'no model "o\'x" is registered'),
        ("M@champion", r"no model 'M' is registered \(did you mean 'm'\?\)"),
        ("0" * 32, "MLflow has no 000"),
    ],
)
def test_what_cannot_be_compared_is_named(training, champion, reference, said):
    with pytest.raises(RunnerError, match=said):
        compare(training.prepared.settings, reference, "m/1")
