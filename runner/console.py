"""The only module that prints: results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from runner.errors import RunnerError

# What is printed holds names and paths: `[x]` is no markup in them, and `:key:` no emoji.
_stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
_stdout = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


_GAP = 2  # between two columns
_quiet_steps = False
_verbose = False


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Show no steps if `quiet`, and details if `verbose`."""
    global _quiet_steps, _verbose
    _quiet_steps, _verbose = quiet, verbose


def result(text: str) -> None:
    """Print a line of the result to stdout."""
    _stdout.print(text)


def result_json(value: Any) -> None:
    """Print `value` as indented JSON to stdout; times become ISO 8601 text."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def result_markdown(text: str) -> None:
    """Print Markdown to stdout: laid out on a terminal, as it is elsewhere."""
    if _stdout.is_terminal:
        from rich.markdown import Markdown

        _stdout.print(Markdown(text))
    else:
        sys.stdout.write(text)


def result_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table to stdout."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    widths = _widths(columns, rows) if _stdout.is_terminal else [None] * len(columns)
    if widths is None:
        _print_stacked(title, columns, rows)
        return
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    if not _stdout.is_terminal:  # in a file or a pipe there is no edge to fold at
        unbounded = _stdout.options.update(width=100_000)
        table.width = Measurement.get(_stdout, unbounded, table).maximum
    _stdout.print(table)


def _widths(columns: list[str], rows: list[list[str]]) -> list[int | None] | None:
    """Return widths that fit the terminal and break no word; None where there are none."""
    cells = list(zip(columns, *rows, strict=True))
    whole = [max(cell_len(text) for text in column) for column in cells]
    least = [max(cell_len(w) for text in column for w in text.split() or [""]) for column in cells]
    room = _stdout.width - _GAP * (len(columns) - 1)
    if sum(whole) <= room:
        return [None] * len(columns)
    spare = room - sum(least)
    if spare < 0:
        return None
    widths = list[int | None]()
    for most, word in zip(whole, least, strict=True):
        share = spare * (most - word) // max(1, sum(whole) - sum(least))
        widths.append(word + share)
    return widths


def _print_stacked(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print each row as lines `column: cell`: the terminal is too narrow for a table."""
    if title:
        _stdout.print(title)
    for row in rows:
        for i, (column, cell) in enumerate(zip(columns, row, strict=True)):
            if cell:
                lead = "- " if i == 0 else "  "
                _stdout.print(f"{lead}{column}: {cell}" if column else f"{lead}{cell}")


def note(text: str) -> None:
    """Print a line of progress to stderr."""
    _stderr.print(text, style="dim")


def detail(text: str) -> None:
    """Print a line to stderr that only `--verbose` shows."""
    if _verbose:
        _stderr.print(text, style="dim")


def warn(text: str) -> None:
    """Print one `warning:` line to stderr."""
    _stderr.print(f"warning: {text}", style="yellow")


def failure(error: RunnerError) -> None:
    """Print an expected failure as one `error:` line and one `hint:` line to stderr."""
    _stderr.print(f"error: {_one_line(error.message)}", style="bold red")
    _stderr.print(f"hint: {_one_line(error.hint)}")


def error(text: str) -> None:
    """Print one `error:` line to stderr, for a command that continues."""
    _stderr.print(f"error: {_one_line(text)}", style="bold red")


@contextmanager
def quiet_steps() -> Iterator[None]:
    """Show no steps in the block."""
    global _quiet_steps
    before, _quiet_steps = _quiet_steps, True
    try:
        yield
    finally:
        _quiet_steps = before


class Step:
    """A running step; `detail` is shown behind its name while it runs and when it is done."""

    def __init__(self, progress: Progress, description: str) -> None:
        self.detail = ""
        self._progress = progress
        self._description = description
        self._task = progress.add_task(description, total=None)

    def update(self, detail: str) -> None:
        """Show `detail` from now on."""
        self.detail = detail
        self._progress.update(self._task, description=f"{self._description}  {detail}")


@contextmanager
def step(description: str) -> Iterator[Step]:
    """Show that `description` is under way, then whether it was done, its detail and its time.

    On a terminal a spinner turns; elsewhere one line is printed when the step ends.
    """
    started = time.perf_counter()
    progress = _progress(SpinnerColumn(), _description(), TimeElapsedColumn())
    running, mark = Step(progress, description), "✗"
    try:
        with progress:
            yield running
        mark = "✓"
    finally:
        detail = f"  {running.detail}" if running.detail else ""
        elapsed = time.perf_counter() - started
        if not _quiet_steps:
            _stderr.print(f"{mark} {description}{detail}  ({elapsed:.1f} s)")


class _SpeedColumn(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "", style="dim")


class Bar:
    """A progress bar; `advance` says how many more rows are done."""

    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def advance(self, rows: int) -> None:
        """Move the bar on by `rows`."""
        self._progress.advance(self._task, rows)


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Bar]:
    """Show a progress bar with rows per second on a terminal; nothing elsewhere."""
    columns = (BarColumn(), MofNCompleteColumn(), _SpeedColumn(), TimeElapsedColumn())
    with _progress(_description(), *columns) as progress:
        yield Bar(progress, description, total)


def _description() -> TextColumn:
    return TextColumn("{task.description}", markup=False)


def _progress(*columns: ProgressColumn) -> Progress:
    """Return a display that vanishes when it ends, and is none where stderr is no terminal."""
    return Progress(
        *columns, console=_stderr, transient=True, disable=_quiet_steps or not _stderr.is_terminal
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
