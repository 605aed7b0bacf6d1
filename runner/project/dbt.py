"""dbt as a subprocess, read through its artifacts and its JSON events.

The Python API's result shapes change between versions; the command line and the artifacts are
dbt's public contract. On a compile error dbt leaves the previous `run_results.json` behind, so a
result counts only when it carries this invocation's id.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr

from runner import console
from runner.bytes_billed import NOTHING_BILLED, Billed
from runner.errors import RunnerError
from runner.project import freshness
from runner.project.build_lock import build_lock, wait_for_other_dbt
from runner.project.built_from import note_built
from runner.project.dbt_process import DbtProgram, follow
from runner.project.dbt_process import Progress as Progress
from runner.project.dbt_results import DbtResult, OtherDbtError, dbt_failure, dbt_results
from runner.project.manifest import Manifest, load_manifest
from runner.settings import DBT_ENVIRONMENT, Settings

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite

_GENERATED = re.compile(r"[^\s('\"]+/_generated/exposures\.yml")


def build(
    settings: Settings,
    select: list[str],
    progress: Progress,
    *,
    full_refresh: bool = False,
    then: Callable[[], None] = lambda: None,
) -> dict[str, Billed]:
    """Run `dbt build` for `select` and everything upstream of it, tests included.

    Parameters
    ----------
    select
        Names of dbt models; `+` is put before each. Empty: the whole project.
    progress
        Called with a short line such as `3/12 user_activity` while dbt works.
    full_refresh
        Build incremental dbt models from scratch.
    then
        Called after a build that succeeded, before another one can begin.

    Waits while another build is at work; see `runner.project.build_lock`.

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
    arguments = ["build", *(upstream_of(select) if select else [])]
    arguments += ["--full-refresh"] if full_refresh else []
    return _billed(run_alone(settings, arguments, progress, then=then))


def run_alone(
    settings: Settings,
    arguments: list[str],
    progress: Progress,
    *,
    program: DbtProgram | None = None,
    then: Callable[[], None] = lambda: None,
) -> list[DbtResult]:
    """Run dbt as `run`, while no other runner builds; `then` as `build`.

    If a bare dbt breaks the build all the same, wait until it has ended, and build once more.
    """
    with build_lock(settings) as lock:
        once = partial(run, settings, arguments, progress, inherited=(lock,), program=program)
        try:
            results = once()
        except OtherDbtError:
            if settings.target == "cloud":  # BigQuery does not say who else is at work
                raise
            wait_for_other_dbt(settings)
            results = once()
        then()
    return results


def upstream_of(select: list[str]) -> list[str]:
    """Return dbt's arguments for the dbt models `select` and everything upstream, with tests."""
    # "buildable" leaves out tests that also need a dbt model which is not built here.
    return ["--indirect-selection", "buildable", "--select", *(f"+{name}" for name in select)]


def run(
    settings: Settings,
    arguments: list[str],
    progress: Progress,
    *,
    inherited: Sequence[int] = (),
    program: DbtProgram | None = None,
) -> list[DbtResult]:
    """Run one dbt command in the project; its progress goes to `progress`.

    Parameters
    ----------
    inherited
        Open files that dbt holds as long as it works.
    program
        A running dbt; None: a new one is started.

    Returns
    -------
    list of dict
        The results in dbt's `run_results.json`; empty for a command that writes none.

    Raises
    ------
    RunnerError
        If dbt fails; see `build`.
    """
    note_built(settings)
    project = freshness.fingerprint(settings)
    options = ["--log-format", "json", "--no-use-colors", *arguments, "--target", settings.target]
    if program is not None:
        events = program(options, progress, inherited)
    else:
        command = [str(find_program("dbt")), *options]
        env = {**settings.env, **DBT_ENVIRONMENT}
        events = follow(command, settings.root, env, progress, inherited)
    if events.exit_code:
        generated = _GENERATED.search("\n".join(events.errors))
        if generated and freshness.is_generated(ours := settings.root / generated[0]):
            # An earlier version wrote references into it, and one leads nowhere now.
            ours.unlink()
            return run(settings, arguments, progress, inherited=inherited, program=program)
        raise dbt_failure(settings, arguments, events)
    freshness.remember(settings, project, events.invocation_id)
    return dbt_results(settings, events.invocation_id)


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


def parsed(settings: Settings) -> Manifest:
    """Return the same as `up_to_date`; reading the project is a step of the command.

    Raises
    ------
    RunnerError
        If dbt cannot read the project.
    """
    if not freshness.is_current(settings):
        with console.step("dbt parse") as step:
            return up_to_date(settings, step.update)
    return load_manifest(settings.manifest_path)


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

    def copyfile(self, source: SupportsRead[AnyStr], outputfile: SupportsWrite[AnyStr]) -> None:
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


def _billed(results: list[DbtResult]) -> dict[str, Billed]:
    billed: dict[str, Billed] = {}
    for result in results:
        kind, _, name = result["unique_id"].split(".")[:3]
        response = result["adapter_response"]
        bytes_billed = response.get("bytes_billed")
        if bytes_billed is None or kind not in {"model", "test"}:
            continue
        step = f"dbt.{name}" if kind == "model" else "dbt_tests"
        found = Billed(response.get("bytes_processed") or 0, bytes_billed)
        billed[step] = billed.get(step, NOTHING_BILLED) + found
    return billed
