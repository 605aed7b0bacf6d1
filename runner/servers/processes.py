"""Server processes of our own: start them detached, find them again, stop them."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from runner.errors import RunnerError
from runner.servers import unprivileged

# A crash recovery of gigabytes of log takes this long; a usual start takes a second.
START_SECONDS = 120
STOP_SECONDS = 60
_POLL_SECONDS = 0.02
_LOG_BYTES = 10_000_000
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")


def installed(package: str) -> Path:
    """Return the folder of an installed package, without importing it and what it does then."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise RunnerError(
            f"the package {package} is not installed, so no server can start from it",
            hint="install the project's requirements, or start PostgreSQL and Redis yourself "
            "(docker compose -f docker-compose.local.yml up -d)",
        )
    return Path(spec.origin).parent


def require_program(path: Path) -> Path:
    """Return `path` if it can be run."""
    if not os.access(path, os.X_OK):
        raise RunnerError(
            f"{path}: no such program",
            hint="install the project's requirements again, or start PostgreSQL and Redis "
            "yourself (docker compose -f docker-compose.local.yml up -d)",
        )
    return path


def run(command: Sequence[str | Path], data: Path, text: str) -> None:
    """Run `command` to its end, never as root, with `text` as its standard input.

    Raises
    ------
    RunnerError
        If it fails; the message holds the last line it wrote.
    """
    _launch([], command, data, text)


def start(
    command: Sequence[str | Path], data: Path, ready: Callable[[], bool], text: str = ""
) -> psutil.Process:
    """Return the server `command`, detached and never root, once `ready()`.

    Parameters
    ----------
    data
        The server's folder; its output is appended to the file `<data>.log` beside it.
    text
        Its standard input.

    Raises
    ------
    RunnerError
        If it ends before it is ready, or takes too long; the message holds what it said.
    """
    log = log_of(data)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.old"))
    before = log.stat().st_size if log.exists() else 0
    pid = int(_launch(["--log", str(log.resolve())], command, data, text))
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if not _alive(pid):
            said = log.read_bytes()[before:].decode(errors="replace")
            raise _failure(Path(command[0]).name, said, data)
        if time.monotonic() > deadline:
            stop(psutil.Process(pid), signal.SIGKILL, data)
            raise RunnerError(
                f"the server in {data} was not ready after {START_SECONDS} s",
                hint=f"look at {log}, then try `runner up` again",
            )
        time.sleep(_POLL_SECONDS)
    return psutil.Process(pid)


def log_of(data: Path) -> Path:
    """Return the log file of the server whose folder is `data`."""
    return data.with_name(f"{data.name}.log")


def _launch(options: list[str], command: Sequence[str | Path], data: Path, text: str) -> str:
    program = require_program(Path(command[0]))
    launcher = [sys.executable, "-IS", unprivileged.__file__, *options, str(data.resolve())]
    # No password and no PG* variable of the user's reaches the long-lived process.
    env = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    done = subprocess.run(
        [*launcher, *map(str, command)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**env, "LC_ALL": "C"},
    )
    if done.returncode == unprivileged.UNREACHABLE:
        raise RunnerError(
            f"{program.name} may not run as root, and the account it would run as instead "
            f"cannot reach {done.stderr.strip()}",
            hint="run as a normal user, or move the project and its .venv out of private folders",
        )
    if done.returncode != 0:
        raise _failure(program.name, done.stderr, data)
    return done.stdout


def find(pid_file: Path, program: str) -> psutil.Process | None:
    """Return the running `program` whose folder holds `pid_file`; None if the file is stale."""
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, IndexError, ValueError):  # missing, another user's, or half-written
        return None
    return _if_ours(pid, pid_file.parent, program)


def _if_ours(pid: int, data: Path, program: str) -> psutil.Process | None:
    """Return process `pid` if it is `program` working in `data`: a pid alone may be reused."""
    try:
        process = psutil.Process(pid)
        named = process.name().startswith(program)
        return process if named and Path(process.cwd()) == data.resolve() else None
    except psutil.Error:
        return None


def refuse_second(process: psutil.Process | None, data: Path) -> None:
    """Raise RunnerError if `process` already works in `data`."""
    if process is not None:
        raise RunnerError(
            f"the server in {data} (process {process.pid}) already runs, at another address",
            hint="run `runner down` first, with the address it was started with or this one",
        )


def clear_leftovers(pid_file: Path, program: str) -> None:
    """Remove a stale `pid_file` and end what a killed server left working in its folder."""
    if not pid_file.exists():
        return
    for pid in psutil.pids():
        process = _if_ours(pid, pid_file.parent, program)
        if process is not None:
            stop(process, signal.SIGKILL, pid_file.parent)
    pid_file.unlink(missing_ok=True)


def stop(process: psutil.Process, with_signal: signal.Signals, data: Path) -> None:
    """Send `with_signal` to `process` and wait until it is gone."""
    try:
        process.send_signal(with_signal)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + STOP_SECONDS
    while _alive(process.pid):
        if time.monotonic() > deadline:
            raise RunnerError(
                f"the server in {data} (process {process.pid}) does not stop",
                hint=f"look at {log_of(data)}, then `kill -9 {process.pid}` and `runner up`",
            )
        time.sleep(_POLL_SECONDS)


def _alive(pid: int) -> bool:
    """Return False for a zombie too: in a container nobody may ever collect it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _failure(program: str, output: str, data: Path) -> RunnerError:
    """Return the error that a program's output describes."""
    if "No space left on device" in output:
        return RunnerError(
            f"disk full: {program} cannot write to {data}",
            hint="free some space (`df -h .`), then `runner up`",
        )
    if "Address already in use" in output:
        return RunnerError(
            f"{program} cannot listen: its port is taken",
            hint="set PGPORT or REDIS_URL to a free port in profiles/local.env, then `runner up`",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"fatal|error", line, re.IGNORECASE)]
    last = (telling or lines or ["it said nothing"])[-1]
    return RunnerError(
        f"{program} in {data} ended: {last}", hint=f"look at {log_of(data)}, then `runner up`"
    )
