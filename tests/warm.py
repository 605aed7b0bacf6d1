"""Programs of the environment, run by a process that has imported what they import already.

A command started this way is a process of its own, as real as any: see `warm_server.py`. What it
spares is the import of other people's packages, ten seconds of a processor for most commands. A
test that looks at what is imported, or at how long a start takes, starts the program itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_BIN = Path(sys.executable).parent
# Sent to a program, it ends it as SIGKILL does; SIGKILL itself would end only the client.
KILL = signal.SIGQUIT
_READY_WITHIN_SECONDS = 300
# In the folder, `python` is the plain interpreter: the product finds its programs beside it.
_PROGRAMS = {"dbt": "dbt", "feast": "feast", "runner": "runner", "warm-python": "python"}


def program(name: str) -> Path:
    """Return what runs `dbt`, `feast`, `runner` or `python` warm; starts the server if need be."""
    return _folder() / ("warm-python" if name == "python" else name)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="runner-warm-"))
    for name, real in _PROGRAMS.items():
        client = f"{_BIN}/python -IS {_HERE}/warm_client.py {folder}/socket {_BIN}/{real}"
        _write_program(folder / name, client)
    _write_program(folder / "python", f"{_BIN}/python")
    folder.chmod(0o711)  # the servers' unprivileged account looks here for the interpreter
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    # Read as the libraries are loaded. Several tests run at once: threads would spin for each
    # other's processors.
    env |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, _HERE / "warm_server.py", folder]
    # It lives as long as this process, which holds the other end of its standard input.
    server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while not (folder / "socket").exists():
        assert server.poll() is None, "the warm server did not start"
        assert time.monotonic() < deadline, "the warm server is not ready"
        time.sleep(0.05)
    return folder


def _write_program(path: Path, command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
