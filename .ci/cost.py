"""Run a command and write what it cost: `cost.py FILE NAME COMMAND...` appends a line to FILE.

CPU is user and system time of the command and of everything that it started, also what was left
by its parent: orphans become children of this process, which waits for them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_ORPHANS_END_WITHIN_SECONDS = 10


def main() -> None:
    """Run the command, write the line, and end with the command's exit code."""
    file, name, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    started = time.monotonic()
    process = subprocess.Popen(command)
    code = _wait(process.pid)
    wall = time.monotonic() - started
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = spent.ru_utime + spent.ru_stime + _spent_by_those_that_live()
    with Path(file).open("a") as costs:
        costs.write(f"{name}: {wall:,.0f} s, {cpu:,.0f} s of CPU\n")
    sys.exit(code)


def _wait(command: int) -> int:
    """Wait for the command, and a while for what it left behind; return its exit code."""
    code, deadline = None, float("inf")
    while time.monotonic() < deadline:
        try:
            pid, status = os.waitpid(-1, 0 if code is None else os.WNOHANG)
        except ChildProcessError:
            break
        if pid == command:
            code = abs(os.waitstatus_to_exitcode(status))
            deadline = time.monotonic() + _ORPHANS_END_WITHIN_SECONDS
        elif not pid:
            time.sleep(0.1)
    return 1 if code is None else code


def _spent_by_those_that_live() -> float:
    """Return the CPU seconds of descendants: servers that go on are children of this process."""
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid], ticks[pid] = int(after_name[1]), sum(map(int, after_name[11:15]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[pid] for pid in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
