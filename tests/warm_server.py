"""A process that has imported what the commands import, and forks one child per command.

Importing feast, MLflow, scikit-learn and dbt costs a command ten seconds of a processor, most of
them the same in every test. Here they cost it once. Each child has an environment, a folder and
descriptors of its own, imports the code under test itself, and ends like any process.

    python warm_server.py FOLDER

FOLDER has a client for each program, and the socket that they ask at; see warm.py. The server ends
with its standard input, and removes the folder.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import inspect
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What the product and dbt import at some time. Not optuna: a test looks whether it is imported.
_HEAVY = (
    "adbc_driver_postgresql.dbapi",
    "coverage",
    "dbt.adapters.bigquery",
    "dbt.adapters.postgres",
    "dbt.cli.main",
    "feast",
    "feast.infra.offline_stores.bigquery",
    "feast.infra.online_stores.redis",
    "feast.infra.offline_stores.contrib.postgres_offline_store.postgres",
    "feast.infra.registry.sql",
    "httpx",
    "matplotlib.figure",
    "mlflow",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "onnx",
    "pandas",
    "psutil",
    "psycopg",
    "pyarrow.parquet",
    "redis",
    "rich.console",
    "rich.progress",
    "skl2onnx",
    "sklearn.calibration",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.inspection",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.preprocessing",
    "skops.io",
    "sqlglot",
    "typer",
    "yaml",
)


@dataclass
class Request:
    """A command: its program's path first, and where it runs."""

    command: list[str]
    cwd: str
    env: dict[str, str]
    descriptors: list[int]


@dataclass
class Server:
    """Children and the clients that wait for them."""

    listener: socket.socket
    clients: dict[int, socket.socket] = field(default_factory=dict)

    def next_request(self) -> Request | None:
        """Serve; return a request in the child that is to do it, and None at the end."""
        woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            for source in (0, woken, self.listener):
                selector.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj == 0:
                        self.end()
                        return None
                    if key.fileobj == woken:
                        os.read(woken, 512)
                        self.reap(selector)
                    elif key.fileobj is self.listener:
                        if request := self.accept(selector):
                            return request
                    elif key.data in self.clients:  # a client that was killed
                        os.kill(key.data, signal.SIGKILL)
                        selector.unregister(key.fileobj)

    def accept(self, selector: selectors.BaseSelector) -> Request | None:
        """Fork; return the request in the child and None in the parent."""
        client, _ = self.listener.accept()
        length, descriptors, _, _ = socket.recv_fds(client, 8, 3)
        wanted = int.from_bytes(length, "big")
        content = bytearray()
        while len(content) < wanted:
            content += client.recv(wanted - len(content))
        request = Request(**json.loads(content), descriptors=descriptors)
        pid = os.fork()
        if pid == 0:
            client.close()
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        self.clients[pid] = client
        client.sendall(pid.to_bytes(8, "big"))
        selector.register(client, selectors.EVENT_READ, pid)
        return None

    def reap(self, selector: selectors.BaseSelector) -> None:
        """Tell the clients of children that have ended how they have."""
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            client = self.clients.pop(pid)
            if client in selector.get_map():
                selector.unregister(client)
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
            client.close()

    def end(self) -> None:
        """Leave no child behind."""
        for pid in self.clients:
            os.kill(pid, signal.SIGKILL)


def prepare(request: Request) -> None:
    """Make this child what a process started for the request would be."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, descriptor in enumerate(request.descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    if not request.command[0].endswith("/dbt"):  # which runs no line that is measured
        import coverage

        coverage.process_startup()


def run(command: list[str]) -> None:
    """Run a program of the environment, or what `python` would run."""
    program, *arguments = command
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if not program.endswith("/python"):
        sys.argv = command
        runpy.run_path(program, run_name="__main__")
        return
    option, *rest = arguments
    sys.argv = rest
    if option == "-c":
        sys.path.insert(0, "")
        names: dict[str, Any] = {"__name__": "__main__"}
        code, sys.argv[0] = rest[0], "-c"
        exec(code, names)
    elif option == "-m":
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(option).resolve().parent))
        runpy.run_path(option, run_name="__main__")


def run_to_the_end(command: list[str]) -> None:
    """Run a command and end the process, as Python would but without taking modules down.

    That would write to most of the memory that the child shares with the server, and so copy it.
    """
    code: object = 0
    try:
        run(command)
    except SystemExit as end:
        code = end.code or 0
    if not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code & 0xFF)


def main() -> None:
    """Serve until the standard input ends."""
    folder = Path(sys.argv[1])
    for name in _HEAVY:
        importlib.import_module(name)
    from mlflow.utils import requirements_utils

    # Kept by the libraries once found: where each module's file is (asked for each of pydantic's
    # models), and which distribution each module is from (asked when MLflow logs a model).
    inspect.getmodule(sys._getframe())
    requirements_utils._init_packages_to_modules_map()
    del sys.path[0]  # the folder of this file
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        request = Server(listener).next_request()
    if request is None:
        shutil.rmtree(folder)
        return
    prepare(request)
    # The product starts dbt, and the API, from beside its interpreter.
    sys.executable = str(folder / "python")
    run_to_the_end(request.command)


if __name__ == "__main__":
    main()
