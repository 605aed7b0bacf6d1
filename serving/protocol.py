"""uvicorn's HTTP protocol, with a short way for a request that has come whole.

ASGI costs a task, three messages and a timer per request, a sixth of its processor time. A request
whose last byte was in what the connection has just received needs none of them: it is handed to
`Guard.answer` at once, and its answer is one write. Whatever else may happen on a connection
(uploads in pieces, pipelining, `Expect`, HTTP/1.0, a client that does not read) goes the usual way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from serving.guard import Guard, Header, Scope


class ShortWayProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = cast("Guard", self.app)
        self._receiving = False
        self._begun: RequestResponseCycle | None = None

    def data_received(self, data: bytes) -> None:
        """Take in bytes; answer the request that they end."""
        self._receiving = True
        super().data_received(data)
        self._receiving = False
        cycle, self._begun = self._begun, None
        if cycle is None:
            return
        if cycle.more_body or self.flow.write_paused or self.transport.is_closing():
            super()._start_asgi_task(cycle, self.app)
        else:
            self._guard.answer(
                cast("Scope", cycle.scope), bytes(cycle.body), partial(self._reply, cycle)
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        short = self._receiving and cycle.keep_alive and not cycle.waiting_for_100_continue
        if short and self._guard.answers(cast("Scope", cycle.scope)):
            self._begun = cycle  # its body may be among the bytes that are being read
        else:
            super()._start_asgi_task(cycle, app)

    def _reply(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes
    ) -> None:
        if cycle.disconnected:
            return
        lines = [STATUS_LINE[status]]
        lines += [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
        if self._guard.draining:
            cycle.keep_alive = False
        if not cycle.keep_alive:  # or uvicorn is shutting down
            lines.append(b"connection: close\r\n")
        self.transport.write(b"".join([*lines, b"\r\n", body]))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
