"""The command line itself: quick to start, and honest about how it ends."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from runner import __version__, cli, console
from runner.commands.models.model_argument import registered_name
from runner.commands.project.server_report import show_servers
from runner.errors import RunnerError
from runner.project.dbt_process import DbtEvents, note_event

HEAVY = {"dbt", "feast", "matplotlib", "mlflow", "numpy", "onnx", "pandas", "psycopg", "pyarrow"}
HEAVY |= {"redis", "serving", "skl2onnx", "sklearn", "sqlglot"}


def test_help_waits_for_nothing_heavy():
    code = "import sys, runner.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()


def test_quick_commands_import_no_numpy():
    commands = ("training.checking", "models.model_comparison", "reading.lineage", "project.doctor")
    imported = ", ".join(f"runner.commands.{name}" for name in commands)
    code = f"import sys, {imported}; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_a_thread_still_does_is_not_heard_of_when_a_command_was_refused():
    code = """
import atexit, sys, threading
from runner import cli
ending = threading.Event()
def work():
    ending.wait()
    raise ImportError("cut off in the middle")
thread = threading.Thread(target=work, daemon=True)
thread.start()
atexit.register(lambda: (ending.set(), thread.join()))  # Python takes down what the thread uses
sys.argv = ["runner", "nope"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command" in done.stderr
    assert "cut off" not in done.stderr


def test_the_version_is_shown():
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.stdout.strip() == f"runner {__version__}"


def test_predictions_go_to_a_file_or_to_a_table():
    options = ("-o", "x.csv", "--to", "scores.x")
    done = CliRunner().invoke(cli.app, ["predict", "recipes/rf.yaml", "keys.csv", *options])
    assert done.exit_code == 2
    assert "name one of them" in done.output


def test_help_names_the_commands_of_a_usual_day():
    done = CliRunner().invoke(cli.app, ["--help"])
    assert done.exit_code == 0
    for command in ("up", "train", "materialize", "serve", "predict", "docs", "status", "down"):
        assert command in done.stdout


@pytest.fixture
def failing(monkeypatch):
    """`runner status` with settings that raise what the test says."""

    def fail_with(error):
        def load_settings(_):
            raise error

        monkeypatch.setattr(cli.project_commands, "load_settings", load_settings)
        return CliRunner().invoke(cli.app, ["status"])

    return fail_with


def test_an_expected_failure_is_two_lines_and_exit_code_1(failing):
    done = failing(RunnerError("it broke\nhere", hint="mend it"))
    assert done.exit_code == 1
    assert done.stdout == ""


def test_ctrl_c_is_exit_code_130(failing):
    assert failing(KeyboardInterrupt()).exit_code == 130


def test_an_unknown_failure_keeps_its_traceback(failing):
    done = failing(ZeroDivisionError("bug"))
    assert isinstance(done.exception, ZeroDivisionError)


def test_a_recipe_stands_for_the_model_it_trains(tmp_path):
    assert registered_name("some_model") == "some_model"
    with pytest.raises(RunnerError, match=r"no\.yaml"):
        registered_name(str(tmp_path / "no.yaml"))


def test_servers_are_shown_with_what_is_wrong(capsys):
    from runner.servers.local_servers import ServerStatus

    show_servers(
        [
            ServerStatus("PostgreSQL", "127.0.0.1:1", "running", "18.6", changed=True),
            ServerStatus("Redis", "127.0.0.1:2", "unusable", problem="a stranger", hint="move"),
        ],
        as_json=False,
    )
    shown = capsys.readouterr().out
    assert "PostgreSQL 18.6" in shown
    assert "running (now)" in shown
    assert "a stranger" in shown


def test_every_command_in_a_project_takes_the_target():
    for name, command in typer.main.get_command(cli.app).commands.items():
        leaves = getattr(command, "commands", {name: command})
        for leaf in leaves.values():
            # `runner init` writes all targets; `runner help` reads the installed package.
            takes_it = name not in {"init", "help"}
            assert ("target" in {option.name for option in leaf.params}) == takes_it, name


@pytest.mark.parametrize(
    ("story", "allowed"),
    [
        ("training.checking", set()),
        ("training.checking_report", set()),
        ("models.model_comparison", set()),
        ("models.comparison_report", set()),
        ("models.registered", set()),
        ("models.registered_report", set()),
        ("project.completion", set()),
        ("reading.lineage", set()),
        ("reading.lineage_report", set()),
        ("project.doctor", {"psycopg"}),
        ("project.doctor_report", {"psycopg"}),
        ("training.plan", {"numpy", "pandas", "psycopg", "pyarrow"}),
        ("training.plan_report", set()),
        ("builds.exposures", set()),
        ("online.online_values", set()),
        ("models.promotion", {"mlflow", "numpy", "pandas", "pyarrow"}),  # as MLflow itself does
        ("served.monitoring", HEAVY - {"dbt", "feast", "onnx", "serving", "skl2onnx", "sqlglot"}),
    ],
)
def test_a_command_that_reads_a_few_rows_imports_little(story, allowed):
    code = (
        f"import sys, runner.commands.{story}; print(*{{n.partition('.')[0] for n in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == allowed


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ([], ["✓ build"]),
        (["--quiet"], []),
        (["-v"], ["dbt: 1 of 2 OK", "✓ build"]),
    ],
)
def test_quiet_shows_no_steps_and_verbose_shows_what_dbt_says(option, shown, monkeypatch):
    def load_settings(_):
        with console.step("build"):
            event = {"info": {"name": "Note", "level": "info", "msg": "1 of 2 OK"}, "data": {}}
            note_event(event, DbtEvents(), lambda _: None)
        raise RunnerError("it broke", hint="mend it")

    monkeypatch.setattr(cli.project_commands, "load_settings", load_settings)
    done = CliRunner().invoke(cli.app, [*option, "status"])
    monkeypatch.undo()
    console.set_verbosity(quiet=False, verbose=False)
    lines = [line.partition("  (")[0] for line in done.stderr.splitlines()]
    assert lines == [*shown, "error: it broke", "hint: mend it"]
