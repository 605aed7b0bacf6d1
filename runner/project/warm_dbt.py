"""dbt in a process that is kept for the next command: its start-up costs more than a small build.

The process is replaced when it fails, ends or has run many commands. It holds the build lock's
files while it works and ends with its runner, as a dbt of its own does. It is in a session of its
own: Ctrl-C in a terminal reaches the runner, which lets the command end.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runner.project import dies_with_parent
from runner.project.dbt_process import DbtEvents, Progress, note_event, parsed
from runner.project.dbt_worker import ENDED
from runner.settings import DBT_ENVIRONMENT, Settings

_MOST_COMMANDS = 200  # dbt was not made to live for ever
_WORKER = Path(__file__).with_name("dbt_worker.py")


class WarmDbt:
    """dbt for one project, ready for the next command. To be closed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._socket: socket.socket | None = None
        self._commands = 0

    def __call__(
        self, arguments: Sequence[str], progress: Progress, inherited: Sequence[int]
    ) -> DbtEvents:
        """Run one dbt command to its end; return what it said."""
        if self._commands >= _MOST_COMMANDS or (self._process and self._process.poll() is not None):
            self.close()
        process, asked = self._started()
        self._commands += 1
        events = DbtEvents(exit_code=1)
        try:
            socket.send_fds(asked, [json.dumps(list(arguments)).encode()], list(inherited))
            self._follow(process, events, progress)
        except BaseException:  # a second Ctrl-C too
            self.close()
            raise
        if events.exit_code:
            self.close()
        return events

    def close(self) -> None:
        """End the process, and with it what it does."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
        self._process = self._socket = None
        self._commands = 0

    def _follow(
        self, process: subprocess.Popen[str], events: DbtEvents, progress: Progress
    ) -> None:
        assert process.stdout is not None  # noqa: S101  (PIPE was asked for)
        for event in parsed(process.stdout):
            if event["info"]["name"] == ENDED:
                events.exit_code = int(event["info"]["msg"])
                return
            note_event(event, events, progress)
        events.errors.append("dbt's process ended before its command did")

    def _started(self) -> tuple[subprocess.Popen[str], socket.socket]:
        if self._process is not None and self._socket is not None:
            return self._process, self._socket
        ours, theirs = socket.socketpair()
        launcher = [sys.executable, "-IS", dies_with_parent.__file__, str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(
                [*launcher, sys.executable, "-P", str(_WORKER), str(theirs.fileno())],
                cwd=self._settings.root,
                env={**self._settings.env, **DBT_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        return self._process, ours
