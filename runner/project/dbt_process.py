"""One invocation of dbt: started, followed through its JSON events, ended with its runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

from runner import console
from runner.project import dies_with_parent

Progress = Callable[[str], None]


class _EventInfo(TypedDict):
    name: str
    level: str
    msg: str
    invocation_id: NotRequired[str]


class _EventNode(TypedDict):
    node_name: str


class _EventData(TypedDict, total=False):
    index: int
    total: int
    num_models: int
    node_info: _EventNode


class DbtEvent(TypedDict):
    """A line of dbt's JSON log."""

    info: _EventInfo
    data: _EventData


@dataclass
class DbtEvents:
    """What one dbt invocation said, and how it ended."""

    invocation_id: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    exit_code: int = 0


class DbtProgram(Protocol):
    """A dbt that already runs."""

    def __call__(
        self, arguments: Sequence[str], progress: Progress, inherited: Sequence[int]
    ) -> DbtEvents:
        """Run one command to its end; return what it said."""


def follow(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    progress: Progress,
    inherited: Sequence[int],
) -> DbtEvents:
    """Run dbt, with JSON events, to its end; return what it said."""
    events = DbtEvents()
    launcher = [sys.executable, "-IS", dies_with_parent.__file__, str(os.getpid())]
    with subprocess.Popen(
        [*launcher, *command],
        cwd=folder,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=inherited,
    ) as process:
        assert process.stdout is not None  # noqa: S101  (PIPE was asked for)
        try:
            for event in parsed(process.stdout):
                note_event(event, events, progress)
        except KeyboardInterrupt:
            # A terminal sends Ctrl-C to dbt too, `kill` does not. dbt cancels its queries and ends.
            process.send_signal(signal.SIGINT)
            _end(process)
            raise
    events.exit_code = process.returncode
    return events


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that was asked to end, reading on lest it block; then kill it."""
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def parsed(lines: Iterable[str]) -> Iterator[DbtEvent]:
    """Yield the events in what dbt prints."""
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)
        elif line.strip():
            # Before its logger is set up, dbt writes usage errors as plain text.
            yield {"info": {"name": "Plain", "level": "error", "msg": line.strip()}, "data": {}}


def note_event(event: DbtEvent, events: DbtEvents, progress: Progress) -> None:
    """Add an event to `events`, and show that dbt goes on; `--verbose` shows all it says."""
    info, data = event["info"], event["data"]
    events.invocation_id = info.get("invocation_id") or events.invocation_id
    # On BigQuery the adapter prints a link to the job; what went wrong comes after it.
    if info["level"] == "error" and info["name"] != "AdapterEventError":
        events.errors.append(info["msg"].strip())
    elif info["level"] == "warn":
        events.warnings.append(info["msg"].strip())
    console.detail(f"dbt: {info['msg'].strip()}")
    if info["name"] in {"LogModelResult", "LogTestResult", "LogStartLine"}:
        total = data.get("total") or data.get("num_models")  # the latter of tests
        progress(f"{data.get('index')}/{total} {data['node_info']['node_name']}")
