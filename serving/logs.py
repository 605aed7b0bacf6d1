"""Structured logs: one JSON object per line on stderr, without payloads and without secrets.

Access lines are gathered for a moment and written together: a write per request would cost more
than the prediction. Everything else is written at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

_FLUSH_SECONDS = 0.1
_FLUSH_LINES = 500


def log(level: str, message: str, **fields: Any) -> None:
    """Write one line now."""
    _write([_line(level, message, fields)])


def announce(url: str) -> None:
    """Say where the server listens: in words on a terminal, as a log line elsewhere."""
    if sys.stderr.isatty():
        words = f"listening at {url}, documented at {url}/docs; stop with Ctrl-C\n"
        _write([words.encode()])
    else:
        log("info", "listening", url=url, docs=f"{url}/docs")


class AccessLog:
    """Lines about answered requests, written every 0.1 s and when the server stops."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def add(self, **fields: Any) -> None:
        """Note one answered request."""
        self._lines.append(_line("info", "request", fields))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        elif len(self._lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        lines, self._lines = self._lines, []
        _write(lines)


def _line(level: str, message: str, fields: dict[str, Any]) -> bytes:
    head = {"time": datetime.now(UTC), "level": level, "message": message}
    return orjson.dumps(head | fields, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _write(lines: list[bytes]) -> None:
    # Its reader may have ended, or its disk be full: then lines are lost, not the server. Raised
    # in the callback that begins to drain, the error would keep it from ever stopping.
    with contextlib.suppress(OSError):
        sys.stderr.write(b"".join(lines).decode())
        sys.stderr.flush()
