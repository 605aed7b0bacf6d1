"""Who may ask: whoever has an API key or, where there is none, this machine."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from contract.serving_settings import is_loopback
from serving.http.asgi import Scope
from serving.http_errors import ForbiddenError, UnauthorizedError

PROBES = frozenset({"/health", "/ready"})
OPEN_PATHS = PROBES | {"/docs"}
OPEN_FOLDER = "/docs/assets/"
_HOST = re.compile(r"(?:\[([0-9a-f:]+)\]|([^:\[\]]+?)\.?)(?::[0-9]*)?")


class ApiKeys:
    """Decides who may ask. Compared in constant time; several keys allow rotation.

    Without any key only requests that arrive at a loopback address and ask for one are answered,
    whatever address the server listens on. A page of another site may have its own name point at
    this machine (DNS rebinding); the browser then sends that name as `Host`.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, scope: Scope) -> None:
        """Return if the request may pass.

        Raises
        ------
        UnauthorizedError, ForbiddenError
            If it may not.
        """
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return
        if not self._digests:
            _check_loopback(scope)
            return
        given = sha256(_credential(scope)).digest()
        known = False
        for digest in self._digests:
            known |= hmac.compare_digest(given, digest)
        if not known:
            raise UnauthorizedError(
                "send one of the server's API keys as X-API-Key or Bearer token"
            )


def _check_loopback(scope: Scope) -> None:
    if not is_loopback((scope.get("server") or ("", 0))[0]):
        raise ForbiddenError("without API keys this server answers on loopback only")
    if not _names_loopback(_host(scope)):
        raise ForbiddenError(
            "without API keys this server answers only as localhost, 127.0.0.1 or [::1]"
        )


def _host(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"host":
            return bytes(value)
    return b"localhost" if scope["http_version"] == "1.0" else b""  # later versions require it


@lru_cache(maxsize=64)
def _names_loopback(host: bytes) -> bool:
    """Return whether a `Host` header, with or without a port, can only mean this machine."""
    found = _HOST.fullmatch(host.decode("latin-1").lower())
    return found is not None and is_loopback(found[1] or found[2])


def _credential(scope: Scope) -> bytes:
    bearer = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].strip()
    return bearer
