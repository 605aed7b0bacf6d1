"""MLflow runs whose process is gone: killed, or unable to write the end because a disk is full."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
from mlflow import MlflowClient

PROCESS = "runner_process"
"""The tag of every run that is being recorded: host, process id, and when the process began."""
_CLOCK_SECONDS = 5  # a corrected clock moves the time at which a process is said to have begun


def this_process() -> dict[str, str]:
    """Return the tag that says which process records a run."""
    process = psutil.Process(os.getpid())
    return {PROCESS: f"{_here()} {process.pid} {process.create_time():.0f}"}


def end_dead_runs(client: MlflowClient) -> list[str]:
    """End the runs that processes of this host left open, and return their ids.

    Runs of other hosts, and those that another program began, are left alone.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    mine = f"attributes.status = 'RUNNING' and tags.{PROCESS} LIKE '{_here()} %'"
    ended = []
    for run in client.search_runs(experiments, mine) if experiments else ():
        _, pid, began = run.data.tags[PROCESS].rsplit(" ", 2)
        if not _is_running(int(pid), float(began)):
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(str(run.info.run_id))
    return ended


def _here() -> str:
    """Return where a process id means one process: containers may share their host's name."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:  # not Linux: there are no namespaces
        return socket.gethostname()
    return f"{socket.gethostname()} {namespace}"


def _is_running(pid: int, began: float) -> bool:
    """Return whether the process lives; another one may have its number by now."""
    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - began) <= _CLOCK_SECONDS
        )
    except psutil.NoSuchProcess:
        return False
