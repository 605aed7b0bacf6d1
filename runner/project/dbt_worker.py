"""Runs one dbt command after another in one process, which saves dbt's start-up.

A script, run by path: `python -P dbt_worker.py SOCKET`; without -P our `dbt.py` would hide dbt.
Each message on the socket is a JSON list of dbt's arguments, with open files that are held until
the command has ended. What dbt prints goes to stdout, then a line whose event is `RunnerEnded`. It
ends when the socket is closed.
"""

import json
import os
import socket
import sys

ENDED = "RunnerEnded"
_LONGEST_MESSAGE = 1 << 20
_MOST_FILES = 8


def main() -> None:
    """Run commands until the socket is closed."""
    from dbt.cli.main import dbtRunner

    asked = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, files, _, _ = socket.recv_fds(asked, _LONGEST_MESSAGE, _MOST_FILES)
        if not message:
            return
        done = dbtRunner().invoke(json.loads(message))
        if done.exception is not None:
            _say("Exception", "error", str(done.exception))
        code = 0 if done.success else 2 if done.exception is not None else 1
        _say(ENDED, "info", str(code))
        for file in files:
            os.close(file)


def _say(name: str, level: str, text: str) -> None:
    event = {"info": {"name": name, "level": level, "msg": text}, "data": {}}
    print(json.dumps(event), flush=True)  # noqa: T201  (the protocol)


if __name__ == "__main__":
    main()
