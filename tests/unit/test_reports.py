"""What commands print: the same facts in a table and as JSON, and a verdict in words."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from runner import cli
from runner.commands.models.comparison_report import verdict
from runner.commands.models.model_comparison import ComparedProperty
from runner.commands.models.registered import RegisteredVersion
from runner.commands.models.registered_report import show_runs, show_versions
from runner.commands.online.online_report import show_materialized
from runner.commands.project.server_report import show_servers
from runner.commands.training.checking_report import show_problems
from runner.commands.training.training import TrainingResult
from runner.commands.training.training_report import show_training
from runner.errors import RunnerError
from runner.online.view_report import ViewReport
from runner.records.run_facts import RunFacts, VersionFacts
from runner.servers.local_servers import ServerStatus

TABLES = ("audit", "check", "compare", "cost", "doctor", "down", "lineage", "materialize", "plan")
TABLES += ("models", "reproduce", "runs", "status", "train", "up")


def printed(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", TABLES)
def test_a_command_that_prints_a_table_prints_json_too(name):
    command = typer.main.get_command(cli.app).commands[name]
    assert "--json" in [option for param in command.params for option in param.opts]


@pytest.mark.parametrize("arguments", [["--help"], ["materialize", "-h"], ["online", "get", "-h"]])
def test_help_names_no_type_of_a_flag_or_an_argument(arguments):
    shown = CliRunner().invoke(cli.app, arguments).stdout
    assert "--help" in shown
    for noise in ("<bool>", "<str>", "<path>", "<list"):
        assert noise not in shown


def test_servers_as_json(capsys):
    redis = ServerStatus("Redis", "127.0.0.1:2", "unusable", problem="another user's", hint="move")
    show_servers([redis], as_json=True)
    [found] = printed(capsys)
    assert (found["name"], found["state"], found["hint"]) == ("Redis", "unusable", "move")


def test_checked_recipes_as_a_line_each_and_as_json(capsys):
    checked = {Path("a.yaml"): (), Path("b.yaml"): [RunnerError("b.yaml:1:1: wrong", hint="fix")]}
    show_problems(checked, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["a.yaml: OK", "b.yaml:1:1: wrong", "  hint: fix"]
    show_problems(checked, as_json=True)
    assert printed(capsys) == [
        {"path": "a.yaml", "ok": True, "problems": []},
        {
            "path": "b.yaml",
            "ok": False,
            "problems": [{"message": "b.yaml:1:1: wrong", "hint": "fix"}],
        },
    ]


def test_materialized_views_as_json(capsys):
    as_of = datetime(2026, 1, 31, 12, tzinfo=UTC)
    show_materialized([ViewReport("activity", "full", as_of, entities=10, seconds=2)], as_json=True)
    [view] = printed(capsys)
    assert view["as_of"] == "2026-01-31T12:00:00+00:00"
    assert (view["view"], view["entities"], view["rows_per_second"]) == ("activity", 10, 5.0)


def test_a_training_as_json_is_nothing_but_json_on_stdout(capsys):
    trained = TrainingResult(
        run_id="a" * 32,
        registered_model_name="spend",
        version="3",
        scores={"r2": (0.9, 0.5)},
        intervals={"r2": (0.4, 0.6)},
        decision_threshold=None,
        slices=[],
        refusals=(),
        champion="2",
    )
    show_training(trained, Path("recipes/spend.yaml"), as_json=True)
    found = printed(capsys)
    assert found["scores"] == {"r2": {"train": 0.9, "test": 0.5, "test_interval": [0.4, 0.6]}}
    assert (found["version"], found["is_champion"]) == ("3", True)


def test_registered_versions_have_their_alias_recipe_time_and_test_scores(capsys):
    run = RunFacts(
        "a" * 32,
        "1",
        "FINISHED",
        "",
        {"recipe": "spend"},
        {},
        {"train_r2": 0.9, "test_r2": 0.5, "test_r2_low": 0.4, "n_rows": 7},
        started=datetime(2026, 1, 31, 12, tzinfo=UTC),
    )
    found = [
        RegisteredVersion(VersionFacts("spend", "2", run.run_id, ("champion",)), run),
        RegisteredVersion(VersionFacts("spend", "1", "b" * 32, ()), None),
    ]
    show_versions(found, as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split()[:5] == ["spend/2", "champion", "2026-01-31", "12:00", "spend"]
    assert shown[1].rstrip().endswith("r2 0.5000")
    assert "its run is not in MLflow" in shown[2]
    show_versions(found, as_json=True)
    first, second = printed(capsys)
    assert first["run"]["test_scores"] == {"r2": 0.5}
    assert first["run"]["started"] == "2026-01-31T12:00:00+00:00"
    assert (second["version"], second["run"]) == ("1", None)
    show_runs([run], as_json=False)
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[3:] == ["finished", "spend", "r2", "0.5000"]


def test_two_models_are_identical_or_differ_in_so_many_properties():
    same = [ComparedProperty("run", "id", "a", "b"), ComparedProperty("metrics", "r2", 0.5, 0.5)]
    assert verdict(same) == "identical"
    other = ComparedProperty("features", "activity:value", "yes", None)
    assert verdict([*same, other]) == "1 of 2 properties differ"
