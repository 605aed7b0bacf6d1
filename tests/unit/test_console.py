"""Results go to stdout, everything else to stderr; a failure is two lines."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from runner import console
from runner.errors import RunnerError


def on_a_terminal(*lines):
    """Run the lines in a Python whose stderr is a terminal; return what it showed and printed."""
    ours, theirs = pty.openpty()
    code = "\n".join(("from runner import console", *lines))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how a terminal says that its other end is closed
            while chunk := os.read(ours, 4096):
                shown += chunk
        os.close(ours)
        printed = process.stdout.read()
    assert process.returncode == 0
    return shown.decode(), printed.decode()


def test_results_go_to_stdout_as_they_are(capsys):
    console.result("[red] :key: 1.50 " + "x" * 200)
    console.result_table("Versions [1]", ["name", "[b]score[/b]"], [["a:key:b", "[0.5]"]])
    out, err = capsys.readouterr()
    assert not err
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["[red]", ":key:", "1.50", "x" * 200]
    assert lines[1:] == [["Versions", "[1]"], ["name", "[b]score[/b]"], ["a:key:b", "[0.5]"]]


def shown_as_table(columns, row):
    shown, _ = on_a_terminal(
        "import sys", "sys.stdout = sys.stderr", f"console.result_table('', {columns}, [{row}])"
    )
    return shown.splitlines()


def test_a_table_in_a_pipe_has_one_line_a_row(capsys):
    console.result_table("", ["path"], [["p " * 75]])
    assert "p " * 75 in capsys.readouterr().out


def test_a_table_fits_a_terminal_and_breaks_no_word():
    words = [("alpha" * 6 + " ") * 3, ("beta" * 6 + " ") * 4, "gamma" * 4]
    lines = shown_as_table(["", "b", "c"], words)
    assert max(len(line) for line in lines) <= 100
    seen = [word for line in lines for word in line.split()]
    assert sorted(seen) == sorted(["b", "c", *" ".join(words).split()])


def test_where_the_words_are_too_long_for_a_table_each_cell_has_a_line():
    lines = shown_as_table(["path", "", "size"], ["p" * 90, "q" * 90, ""])
    assert lines == [f"- path: {'p' * 90}", f"  {'q' * 90}"]


def test_json_goes_to_stdout_with_times_in_iso_8601(capsys):
    console.result_json({"at": datetime(2026, 1, 1, tzinfo=UTC), "n": [1, None]})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"at": "2026-01-01 00:00:00+00:00", "n": [1, None]}
    assert not err


def test_notes_and_warnings_go_to_stderr_as_they_are(capsys):
    console.note("[dim] :key:")
    console.warn("mind [this]")
    out, err = capsys.readouterr()
    assert not out
    assert err == "[dim] :key:\nwarning: mind [this]\n"


def test_a_failure_is_one_error_line_and_one_hint_line(capsys):
    console.failure(RunnerError("a.yaml:1:2:\n  [x] " + "long " * 100, hint="do\nthat"))
    out, err = capsys.readouterr()
    assert not out
    error, hint = err.splitlines()
    assert error == "error: a.yaml:1:2: [x] " + " ".join(["long"] * 100)
    assert hint == "hint: do that"


def test_a_step_that_is_done_says_its_detail_and_time(capsys):
    with console.step("fit [model]") as step:
        step.update("half of 10 rows")
        step.update("10 rows")
    out, err = capsys.readouterr()
    assert not out
    assert re.fullmatch(r"✓ fit \[model\]  10 rows  \(\d+\.\d s\)\n", err)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_step_that_fails_says_so_and_lets_the_error_pass(capsys, error):
    with pytest.raises(error), console.step("fit"):
        raise error
    assert re.fullmatch(r"✗ fit  \(\d+\.\d s\)\n", capsys.readouterr().err)


def test_a_bar_is_silent_where_no_terminal_is(capsys):
    with console.bar("write", 10) as bar:
        bar.advance(10)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_step_shows_its_detail_while_it_runs():
    shown, printed = on_a_terminal(
        "with console.step('fit [model]') as step:",
        "    step.update('5 rows')",
        "console.result('done')",
    )
    running, _, done = shown.rpartition("✓")
    assert "fit [model]  5 rows" in running
    assert done.startswith(" fit [model]  5 rows  (")
    assert printed == "done\n"


def test_on_a_terminal_a_bar_shows_rows_and_rows_per_second():
    shown, _ = on_a_terminal(
        "with console.bar('write [x]', 2000) as bar:",
        "    bar.advance(1000)",
        "    bar.advance(1000)",
    )
    assert "write [x]" in shown
    assert "2000/2000" in shown
    assert "rows/s" in shown
