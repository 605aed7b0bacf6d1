"""Why a Redis-protocol server cannot be used, in words for whoever operates the API.

These words go to the log. Clients of the API only learn that the online store does not answer.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import hiredis

from contract.redis_address import RedisAddress
from contract.serving_errors import OnlineStoreUnavailableError

_MISMATCHES = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
_OTHER_AUTHORITY = (
    "name its authority's PEM file: REDIS_URL=rediss://…?ssl_ca_certs=/path/to/ca.pem"
)
_OTHER_NAME = (
    "write the name that it was issued for into REDIS_URL, or trust whatever its authority signed: "
    "…&ssl_check_hostname=false"
)
CLIENT_CERTIFICATE = (
    "if it asks for a client certificate: "
    "REDIS_URL=rediss://…?ssl_certfile=/path/to/client.pem&ssl_keyfile=/path/to/client.key"
)
_LOGIN = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH")


def certificate_hint(err: ssl.SSLCertVerificationError) -> str:
    """Return what to do about a certificate that is refused."""
    return _OTHER_NAME if err.verify_code in _MISMATCHES else _OTHER_AUTHORITY


def not_connected(address: RedisAddress, err: OSError) -> OnlineStoreUnavailableError:
    """Return the error for a connection, or its TLS handshake, that failed."""
    where = address.where
    if isinstance(err, ssl.SSLCertVerificationError):
        return OnlineStoreUnavailableError(
            f"the certificate of {where} is refused: {err.verify_message}",
            hint=certificate_hint(err),
        )
    if address.tls is not None and isinstance(err, ssl.SSLError | TimeoutError | ConnectionError):
        if isinstance(err, ConnectionRefusedError):
            return _no_answer(where, err)
        return OnlineStoreUnavailableError(
            f"{where} does not answer in TLS",
            hint="if it speaks plain Redis, write redis:// instead of rediss:// in REDIS_URL",
        )
    return _no_answer(where, err)


def hung_up(address: RedisAddress) -> OnlineStoreUnavailableError:
    """Return the error for a connection that ended before the greeting was answered."""
    if address.tls is not None:
        return OnlineStoreUnavailableError(
            f"{address.where} closes the connection", hint=CLIENT_CERTIFICATE
        )
    return OnlineStoreUnavailableError(
        f"{address.where} does not answer as Redis",
        hint="if it speaks TLS, write rediss:// instead of redis:// in REDIS_URL",
    )


def require_login(address: RedisAddress, replies: Sequence[object]) -> None:
    """Raise OnlineStoreUnavailableError if one of the greeting's replies is an error."""
    reply = next((str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)), "")
    if reply.startswith(_LOGIN):
        raise OnlineStoreUnavailableError(
            f"{address.where} refuses the login: {reply}",
            hint="write user and password into REDIS_URL, special characters percent-encoded",
        )
    if reply:
        raise OnlineStoreUnavailableError(f"{address.where} refuses: {reply}")


def _no_answer(where: str, err: OSError) -> OnlineStoreUnavailableError:
    reason = "timed out" if isinstance(err, TimeoutError) else err.strerror or str(err)
    return OnlineStoreUnavailableError(
        f"{where} does not answer: {reason}", hint="check the host and port in REDIS_URL"
    )
