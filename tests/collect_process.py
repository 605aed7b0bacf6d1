"""`runner collect` in a process of its own, which kills itself at a chosen point."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Any

from runner.collecting.log_stream import LogStream
from runner.collecting.served_rows import ServedRows
from runner.commands.served import collection
from runner.settings import Settings
from runner.warehouse.postgres.collected import PostgresCollected

POINTS = {
    "read": (ServedRows, "rows", "after"),
    "partition": (PostgresCollected, "_create_partition", "after"),
    "written": (PostgresCollected, "append", "before"),
    "committed": (PostgresCollected, "append", "after"),
    "counted": (ServedRows, "committed", "after"),
    "trimmed": (LogStream, "drop", "after"),
}
"""Name of the point → the method that it is before or after."""


def run(settings: Settings, point: str, turn: int) -> None:
    """Collect; die without a word when the point is reached for the given time, from 1."""
    kind, name, when = POINTS[point]
    method = getattr(kind, name)
    reached = 0

    def dies(*args: Any) -> Any:
        nonlocal reached
        reached += 1
        if when == "before" and reached == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args)
        if when == "after" and reached == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(kind, name, dies)
    PostgresCollected.rows_at_once = 300
    collection.collect(settings, None)


def again_and_again(settings: Settings) -> None:
    """Collect until killed, whether Redis and the warehouse answer or not."""
    while True:
        with suppress(Exception):  # of whatever was killed
            collection.collect(settings, None)
        time.sleep(0.05)
