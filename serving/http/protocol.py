"""uvicorn's HTTP protocol, with limits, and a short way for a request that has come whole.

ASGI costs a task, three messages and a timer per request, a sixth of its processor time. A request
whose last byte was in what the connection has just received needs none of them: it is handed to
`RequestGuard.answer` at once, and its answer is one write. Whatever else may happen on a connection
(uploads in pieces, pipelining, `Expect`, HTTP/1.0, a client that does not read) goes the usual way.

uvicorn limits neither how large a header is nor how long it takes, takes trailers for headers, and
waits for ever for a client that does not read. Here each of them has an end, and what cannot be
read is answered in the one shape of errors, after the answers that are due before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from contract.serving_errors import ConfigurationError, ServingError
from serving.http.asgi import CALLER, Caller, Header, Scope
from serving.http.guard import RequestGuard
from serving.http.head import HEADER_BYTES, check_header, too_large, unreadable
from serving.http_errors import MalformedRequestError, TooManyConnectionsError

for _name in ("_start_asgi_task", "_should_upgrade", "_unset_keepalive_if_required"):
    if not hasattr(HttpToolsProtocol, _name):
        raise ConfigurationError(
            f"this version of uvicorn has no HttpToolsProtocol.{_name}, which serving needs",
            hint="install the version in requirements.lock",
        )

_PIPELINED = 16
_LEAST_READ_BYTES = 16_384


class ShortWayProtocol(HttpToolsProtocol):
    """One connection.

    Attributes
    ----------
    header_seconds
        How long a whole header may take from the connection's, or a later request's, first byte.
    write_seconds
        How long a client may go without reading 16 KiB of an answer that waits for it.
    """

    header_seconds = 10.0
    write_seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = cast("RequestGuard", self.app)
        self._caller: Caller  # of the request that came last
        self._receiving = False
        self._begun: RequestResponseCycle | None = None
        self._answering: RequestResponseCycle | None = None
        self._in_header = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._unparsed = 0  # bytes since the last of a body, or since a header began
        self._refused = False
        self._refusal: bytes | None = None  # to be written after the answers before it
        self._unread: tuple[float, int] | None = None  # since when, and how much

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first header."""
        super().connection_made(transport)
        if self._guard.connections.opened(self):
            self._await_header(self.header_seconds)
        else:
            self._refuse(TooManyConnectionsError("too many connections at once"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._guard.connections.lost(self)
        self._header_came()
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True  # uvicorn says so only to the last that came
            self._answering.message_event.set()

    def drop(self) -> None:
        """Close the connection at once, with whatever it was about to send."""
        self.transport.abort()

    # What is read

    def data_received(self, data: bytes) -> None:
        """Take in bytes; answer the request that they end."""
        if self._refused:
            self._stop_reading()
            return
        self._receiving = True
        self._feed(data)
        self._receiving = False
        self._set_header_timer()
        cycle, self._begun = self._begun, None
        if cycle is None:
            return
        if self._is_whole(cycle):
            scope = cast("Scope", cycle.scope)
            self._guard.answer(scope, bytes(cycle.body), partial(self._reply, cycle))
        else:
            super()._start_asgi_task(cycle, self.app)

    def _is_whole(self, cycle: RequestResponseCycle) -> bool:
        """Return whether a request has come whole, and its answer can be sent at once."""
        late = cycle.more_body or self._refused or self.flow.write_paused
        return not (late or self.transport.is_closing())

    def _feed(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as err:
            self._refuse(unreadable(err))
        else:
            if self._unparsed > HEADER_BYTES:
                self._refuse(too_large("headers" if self._in_header else "trailers"))

    def on_message_begin(self) -> None:
        """Note that a header has begun."""
        if len(self.pipeline) >= _PIPELINED:
            raise MalformedRequestError(f"more than {_PIPELINED} requests before an answer")
        super().on_message_begin()
        self._in_header = True
        self._caller = Caller(self.transport)
        cast("Scope", self.scope)[CALLER] = self._caller

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the header is too large."""
        check_header(self.url, self.headers, self._unparsed)
        self._in_header = False
        self._unparsed = 0
        super().on_headers_complete()
        self.headers = []  # trailers come here, not among the headers of the scope

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        self._unparsed = 0
        super().on_body(body)

    def _should_upgrade(self) -> bool:
        """Return whether to leave out the rest of a request, which `_ignore_upgrade` reads."""
        return any(name == b"upgrade" for name, _ in self.scope["headers"])

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the request again without its `Upgrade`, as a server may that has none to offer.

        The parser has skipped the body, which follows in `rest`.
        """
        head = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        kept = [header for header in self.scope["headers"] if header[0] != b"upgrade"]
        head += [b"%b: %b\r\n" % header for header in kept]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"".join([*head, b"\r\n", rest]))

    def _set_header_timer(self) -> None:
        if self._in_header:
            self._await_header(self.header_seconds)
        elif self.cycle is None:
            pass  # the first header is awaited already
        elif self.cycle.response_complete:
            # What came belongs to no request that waits, but uvicorn counts on one no more.
            self._await_header(self.timeout_keep_alive)
        elif self._header_timer is not None:
            self._header_came()

    def _await_header(self, seconds: float) -> None:
        """Close the connection unless a header is whole in time; more of its bytes do not help."""
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _header_came(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    # What is written

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        short = self._receiving and cycle.keep_alive and not cycle.waiting_for_100_continue
        if short and self._guard.answers(cast("Scope", cycle.scope)):
            self._begun = cycle  # its body may be among the bytes that are being read
        else:
            super()._start_asgi_task(cycle, app)

    def _reply(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[Header], body: bytes
    ) -> bool:
        if cycle.disconnected:
            return False
        if self._guard.draining:
            cycle.keep_alive = False
        close = not cycle.keep_alive  # or uvicorn is shutting down
        self.transport.write(self._packed(status, headers, body, close=close))
        cycle.response_started = cycle.response_complete = True
        if close:
            self.transport.close()
        self.on_response_complete()
        return True

    def _packed(self, status: int, headers: Sequence[Header], body: bytes, *, close: bool) -> bytes:
        lines = [STATUS_LINE[status]]
        all_headers = (*self.server_state.default_headers, *headers)
        lines += [b"%b: %b\r\n" % header for header in all_headers]
        if close:
            lines.append(b"connection: close\r\n")
        return b"".join([*lines, b"\r\n", body])

    def on_response_complete(self) -> None:
        """Wait for the next request, or send the error that follows the last answer."""
        super().on_response_complete()
        if self._refusal is not None and self.idle:
            self._write(self._refusal)

    @property
    def idle(self) -> bool:
        """Whether no request waits for its answer."""
        return not self.used or self.cycle.response_complete

    @property
    def used(self) -> bool:
        """Whether there has been a request."""
        return self.cycle is not None

    def _refuse(self, err: ServingError) -> None:
        """Read no more; answer with the error in its turn, and close."""
        self._refused = True
        self._stop_reading()
        if self.used and self.cycle.more_body and not self._in_header:
            self._fail_body(self.cycle, err)
            return
        arrived = self._caller.arrived if self._in_header else time.monotonic()
        refusal = self._packed(*self._guard.refuse(err, arrived), close=True)
        if self.idle:
            self._write(refusal)
        else:
            self._refusal = refusal

    def _write(self, refusal: bytes) -> None:
        self.transport.write(refusal)
        self.transport.close()

    def _fail_body(self, cycle: RequestResponseCycle, err: ServingError) -> None:
        """Let the request whose body it is be answered with the error, unless it was answered."""
        if cycle.response_complete:
            self.transport.close()
            return
        self._caller.fault = err
        cycle.keep_alive = cycle.more_body = False
        cycle.message_event.set()

    def _stop_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    # Clients that do not read

    def pause_writing(self) -> None:
        """Count what the client leaves unread."""
        super().pause_writing()
        self._guard.connections.unread(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Count it no more: the client reads."""
        super().resume_writing()
        self._unread = None
        self._guard.connections.unread(self, 0)

    def check_reader(self) -> None:
        """Close the connection if its client has not read for too long; called every second."""
        unread = self.transport.get_write_buffer_size()
        now = self.loop.time()
        if not unread:
            self._unread = None
        elif self._unread is None or unread <= self._unread[1] - _LEAST_READ_BYTES:
            self._unread = now, unread
        elif now - self._unread[0] >= self.write_seconds:
            self._guard.connections.close(self, "not reading")
