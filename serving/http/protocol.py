"""uvicorn's HTTP protocol, with a short way for a request that has come whole.

ASGI costs a task, three messages and a timer per request, a sixth of its processor time. A request
whose last byte was in what the connection has just received needs none of them: it is handed to
`RequestGuard.answer` at once, and its answer is one write. Whatever else may happen on a connection
(uploads in pieces, pipelining, `Expect`, HTTP/1.0, a client that does not read) goes the usual way.

uvicorn waits for a request's header for ever; here a connection that does not send one in time is
closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from contract.serving_errors import ConfigurationError
from serving.http.guard import Header, RequestGuard, Scope

if not hasattr(HttpToolsProtocol, "_start_asgi_task"):
    raise ConfigurationError(
        "this version of uvicorn has no HttpToolsProtocol._start_asgi_task, which serving needs",
        hint="install the version in requirements.lock",
    )


class ShortWayProtocol(HttpToolsProtocol):
    """One connection.

    Attributes
    ----------
    header_seconds
        How long a whole header may take from the connection's, or a later request's, first byte.
    """

    header_seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = cast("RequestGuard", self.app)
        self._receiving = False
        self._begun: RequestResponseCycle | None = None
        self._in_header = False
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first header."""
        super().connection_made(transport)
        self._await_header(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._header_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Note that a header has begun."""
        super().on_message_begin()
        self._in_header = True

    def on_headers_complete(self) -> None:
        """Note that it is whole."""
        self._in_header = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; answer the request that they end."""
        self._receiving = True
        super().data_received(data)
        self._receiving = False
        if self._in_header:
            self._await_header(self.header_seconds)
        elif self.cycle is None:
            pass  # the first header is awaited already
        elif self.cycle.response_complete:
            # What came belongs to no request that waits, but uvicorn counts on one no more.
            self._await_header(self.timeout_keep_alive)
        elif self._header_timer is not None:
            self._header_came()
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

    def _await_header(self, seconds: float) -> None:
        """Close the connection unless a header is whole in time; more of its bytes do not help."""
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _header_came(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _reply(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes
    ) -> bool:
        if cycle.disconnected:
            return False
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
        return True
