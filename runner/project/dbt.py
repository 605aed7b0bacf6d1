"""dbt as a subprocess, read through its artifacts and its JSON events.

The Python API's result shapes change between versions; the command line and the artifacts are
dbt's public contract. On a compile error dbt leaves the previous `run_results.json` behind, so a
result counts only when it carries this invocation's id.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from runner.bytes_billed import NOTHING_BILLED, Billed, refusal
from runner.errors import RunnerError
from runner.project import freshness
from runner.project.dbt_messages import database_error, essence
from runner.project.manifest import Manifest, load_manifest
from runner.settings import Settings

Progress = Callable[[str], None]
_EXPOSURE_OF_DISABLED = re.compile(
    r"Exposure 'exposure\.[\w.]+' \((\S+/_generated/exposures\.yml)\) .*which is disabled",
    re.DOTALL,
)


@dataclass
class _Events:
    """What one dbt invocation said."""

    invocation_id: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def build(settings: Settings, select: list[str], progress: Progress) -> dict[str, Billed]:
    """Run `dbt build` for `select` and everything upstream of it, tests included.

    Parameters
    ----------
    select
        Names of dbt models; `+` is put before each. Empty: the whole project.
    progress
        Called with a short line such as `3/12 user_activity` while dbt works.

    Returns
    -------
    dict
        What BigQuery billed, as dbt reports it: `dbt.user_activity` for the statement that fills
        that dbt model, `dbt_tests` for all tests together. Empty on PostgreSQL.

    Raises
    ------
    RunnerError
        If a dbt model does not compile or run, or a test fails: names it, its file and the cause.
    """
    return _billed(run(settings, ["build", *(upstream_of(select) if select else [])], progress))


def upstream_of(select: list[str]) -> list[str]:
    """Return dbt's arguments for the dbt models `select` and everything upstream, with tests."""
    # "buildable" leaves out tests that also need a dbt model which is not built here.
    return ["--indirect-selection", "buildable", "--select", *(f"+{name}" for name in select)]


def run(settings: Settings, arguments: list[str], progress: Progress) -> list[dict[str, Any]]:
    """Run one dbt command in the project; its progress goes to `progress`.

    Returns
    -------
    list of dict
        The results in dbt's `run_results.json`; empty for a command that writes none.

    Raises
    ------
    RunnerError
        If dbt fails; see `build`.
    """
    events, project = _Events(), freshness.fingerprint(settings)
    command = [
        str(find_program("dbt")),
        "--log-format",
        "json",
        "--no-use-colors",
        *arguments,
        "--target",
        settings.target,
    ]
    with subprocess.Popen(
        command,
        cwd=settings.root,
        env=dict(settings.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101  (PIPE was asked for)
        try:
            for event in _parse(process.stdout):
                _follow(event, events, progress)
        except KeyboardInterrupt:
            # A terminal sends Ctrl-C to dbt too, `kill` does not. dbt cancels its queries and ends.
            process.send_signal(signal.SIGINT)
            _end(process)
            raise
    if process.returncode:
        of_disabled = _EXPOSURE_OF_DISABLED.search("\n".join(events.errors))
        if of_disabled and (ours := settings.root / of_disabled[1]).is_file():
            # It stands in dbt's way, and without it dbt will know what is disabled.
            ours.unlink()
            return run(settings, arguments, progress)
        raise _failure(settings, arguments, events)
    freshness.remember(settings, project, events.invocation_id)
    return _results(settings, events.invocation_id)


def up_to_date(settings: Settings, progress: Progress) -> Manifest:
    """Return dbt's manifest of the project as it is now; dbt reads only what changed since.

    Raises
    ------
    RunnerError
        If dbt cannot read the project.
    """
    if not freshness.is_current(settings):
        run(settings, ["parse"], progress)
    return load_manifest(settings.manifest_path)


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that was asked to end, reading on lest it block; then kill it."""
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def docs_server(settings: Settings, port: int) -> ThreadingHTTPServer:
    """Return a server of `docs_folder`, bound to `port` on loopback, not yet serving.

    Raises
    ------
    RunnerError
        If the port is taken.
    """
    handler = partial(_QuietHandler, directory=str(docs_folder(settings)))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as err:
        raise RunnerError(
            f"cannot listen on 127.0.0.1:{port} ({err.strerror})",
            hint=f"try another: `runner docs --port {port + 1}`",
        ) from err


def docs_folder(settings: Settings) -> Path:
    """Return where `runner docs` puts the docs together."""
    return settings.root / "target" / "docs"


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serve files without a line on stderr for each, or for a browser that went away."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file."""
        with suppress(ConnectionError):
            super().copyfile(source, outputfile)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base's name)
        """Say nothing."""


def find_program(name: str) -> Path:
    """Return the program `name` of the environment that runs us, else the one on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise RunnerError(f"{name} is not installed", hint="run `make install`")
    return Path(found)


def _parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)
        elif line.strip():
            # Before its logger stands, dbt writes usage errors as plain text.
            yield {
                "info": {"name": "Plain", "level": "error", "msg": line.strip()},
                "data": {},
            }


def _follow(event: dict[str, Any], events: _Events, progress: Progress) -> None:
    info, data = event["info"], event["data"]
    events.invocation_id = info.get("invocation_id") or events.invocation_id
    # On BigQuery the adapter tells a link to the job; what went wrong comes after it.
    if info["level"] == "error" and info["name"] != "AdapterEventError":
        events.errors.append(info["msg"].strip())
    elif info["level"] == "warn":
        events.warnings.append(info["msg"].strip())
    if info["name"] in {"LogModelResult", "LogTestResult", "LogStartLine"}:
        total = data.get("total") or data.get("num_models")  # the latter of tests
        progress(f"{data.get('index')}/{total} {data['node_info']['node_name']}")


def _failure(settings: Settings, arguments: list[str], events: _Events) -> RunnerError:
    command = f"dbt {' '.join(arguments)}"
    for result in _results(settings, events.invocation_id):
        if result["status"] in {"error", "fail", "runtime error"}:
            return _node_failure(settings, result)
    message = events.errors[0] if events.errors else "no reason given"
    return RunnerError(
        f"dbt {arguments[0]} failed: {essence(message)}",
        hint=f"correct it and try `{command} --target {settings.target}` until it passes; "
        "logs/dbt.log has all that dbt said",
    )


def _results(settings: Settings, invocation_id: str) -> list[dict[str, Any]]:
    path = settings.root / "target" / "run_results.json"
    if not path.is_file():
        return []
    content = json.loads(path.read_bytes())
    if content["metadata"]["invocation_id"] != invocation_id:
        return []
    results: list[dict[str, Any]] = content["results"]
    return results


def _billed(results: list[dict[str, Any]]) -> dict[str, Billed]:
    billed: dict[str, Billed] = {}
    for result in results:
        kind, _, name = result["unique_id"].split(".")[:3]
        response = result["adapter_response"]
        if response.get("bytes_billed") is None or kind not in {"model", "test"}:
            continue
        step = f"dbt.{name}" if kind == "model" else "dbt_tests"
        found = Billed(response["bytes_processed"] or 0, response["bytes_billed"])
        billed[step] = billed.get(step, NOTHING_BILLED) + found
    return billed


def _node_failure(settings: Settings, result: dict[str, Any]) -> RunnerError:
    content = json.loads(settings.manifest_path.read_bytes())
    node = {**content["nodes"], **content.get("unit_tests", {})}[result["unique_id"]]
    kind = {"model": "dbt model", "test": "dbt test", "unit_test": "dbt unit test"}.get(
        node["resource_type"], node["resource_type"]
    )
    message = result.get("message") or ""
    file = node["original_file_path"]
    what = f"{file}: {kind} {node['name']}"
    if limit := refusal(what, message):
        return limit
    sql = node.get("build_path") or node.get("compiled_path")
    more = f"its SQL is in {sql}" if sql else "logs/dbt.log has all that dbt said"
    told, name = essence(message, file), node["name"]
    if node["resource_type"] == "unit_test" and (refused := database_error(message)):
        # A dbt model's unit tests run before it, so they meet a mistake in its SQL first.
        more = f"if its SQL is right, correct what {what} gives it"
        model = content["nodes"][node["depends_on"]["nodes"][0]]
        told, name = refused, model["name"]
        what = f"{model['original_file_path']}: dbt model {name}"
    return RunnerError(
        f"{what}: {told}",
        hint=f"correct it and run `dbt build --select {name} --target {settings.target}`; {more}",
    )
