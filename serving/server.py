"""Run the app under uvicorn: bind safely, drain on SIGTERM, log as JSON."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import resource
import select
import signal
import socket
from types import FrameType
from typing import cast

import uvicorn

from contract.serving_errors import ConfigurationError
from contract.serving_settings import ServingSettings
from serving.app import build
from serving.http.guard import Lifecycle
from serving.http.protocol import ShortWayProtocol
from serving.logs import announce, log

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75  # longer than the usual load balancer's, which then closes first

_READERS_SECONDS = 1.0
_LAST_CALL_SECONDS = 2.0
"""How long a connection that has asked nothing yet may keep the server from ending."""
_POLL_SECONDS = 0.05
_ACCEPTORS = 16
"""uvloop accepts one connection for each listening socket in a turn of the event loop. With one
socket, who comes after 250 others waits for 250 turns, each as long as a large request's work."""
_RECEIVE_BYTES = 1 << 17
"""The kernel would keep up to 6 MB of each connection, and uvloop read all of it in one turn."""
_NEW_OBJECTS = 10_000
"""How many new objects trigger a garbage collection. By default it is 700: three collections in a
request of 100 rows, whose objects are freed without them."""
_OTHER_FILES = 64
"""File descriptors beside connections: listeners, Redis, logs, bundles."""


def run(settings: ServingSettings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises
    ------
    ServingError
        If the model cannot be loaded or the address cannot be listened on.
    """
    lifecycle = Lifecycle()
    app = build(settings, lifecycle)
    app.connections.limit = _file_limit(settings.limits.connections)
    listener = _listen(settings.host, settings.port)
    _log_uvicorn()
    config = uvicorn.Config(
        app,
        http=ShortWayProtocol,
        proxy_headers=False,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="on",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.limits.seconds) + 1,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{port}")
    listeners = [listener, *(listener.dup() for _ in range(_ACCEPTORS - 1))]
    DrainingServer(config, lifecycle, settings.drain_seconds).run(sockets=listeners)


class DrainingServer(uvicorn.Server):
    """Keeps answering for a while after SIGTERM, each answer closing its connection.

    Meanwhile `/ready` says no. A load balancer that looks every second sends nothing more by the
    time the listener closes, and no kept-alive connection is left that a request could die on.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the loop that the signal handler reaches; make the server quick to answer."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        # What is here now stays. A garbage collection that looks at all of it stops every request
        # for 20 ms, twice a second under load.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        gc.enable()
        self._check_readers()

    def _check_readers(self) -> None:
        for connection in list(self.server_state.connections):
            cast("ShortWayProtocol", connection).check_reader()
        asyncio.get_running_loop().call_later(_READERS_SECONDS, self._check_readers)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, answer what has arrived, then stop.

        Closing a listener resets the connections that wait in its queue, so the queue is emptied
        first, and the listener shut in the same turn of the event loop.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_LAST_CALL_SECONDS if self._drain_seconds else 0)
        for listener in (sockets or [])[:1]:  # the others are duplicates of it
            queue = select.poll()
            queue.register(listener, select.POLLIN)
            while queue.poll(0) and loop.time() < deadline:
                await asyncio.sleep(0)
            listener.shutdown(socket.SHUT_RD)
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await asyncio.sleep(0)  # sockets just accepted become connections
        while self.server_state.connections and loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first SIGTERM; anything else stops at once."""
        if sig != signal.SIGTERM or self._lifecycle.draining or self._loop is None:
            self._drain_seconds = 0  # no last call either
            super().handle_exit(sig, frame)
            return
        self._lifecycle.draining = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        log("info", "draining", seconds=self._drain_seconds)
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as err:
        reason = str(err.strerror).partition(" (while")[0]  # Python's own addition
        raise ConfigurationError(
            f"cannot listen on {host} port {port} ({reason})",
            hint="stop whatever uses it, or choose another: `runner serve --port`, or SERVING_PORT "
            "for `python -m serving`",
        ) from err
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return listener


def _file_limit(connections: int) -> int:
    """Return how many connections there can be, having asked for as many file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fewer = max(1, hard - _OTHER_FILES)
    log(
        "warning",
        "fewer connections than SERVING_MAX_CONNECTIONS",
        connections=fewer,
        hint=f"raise the limit of open files (ulimit -n) from {hard} to {wanted}",
    )
    return fewer


class _JsonHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log(record.levelname.lower(), record.getMessage(), logger=record.name)


def _log_uvicorn() -> None:
    logger = logging.getLogger("uvicorn.error")
    logger.handlers = [_JsonHandler(logging.WARNING)]
    logger.propagate = False
