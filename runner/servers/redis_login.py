"""Log in to the Redis-protocol server that `REDIS_URL` names, or say why that cannot be done."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.redis_address import RedisAddress
from contract.redis_refusal import CLIENT_CERTIFICATE, certificate_hint
from runner.errors import RunnerError

if TYPE_CHECKING:
    import redis

_ANSWER_SECONDS = 5


def login(address: RedisAddress) -> dict[str, Any]:
    """Return what the server reports of itself; nothing if the account may not ask.

    Raises
    ------
    RunnerError
        If the login, the certificate or the kind of connection is refused.
    redis.exceptions.RedisError
        If it does not answer, or not as Redis does.
    """
    from redis import exceptions

    where = address.where
    try:
        return info(address)
    except exceptions.AuthenticationError as err:
        raise RunnerError(
            f"Redis at {where} refuses the login: {err}",
            hint="set REDIS_URL=redis://:<password>@<host>:<port>/0, or to a free port for a "
            "server of the project's own; then `runner up`",
        ) from err
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.InvalidResponse,
    ) as err:
        told = _tls_problem(address, where, err)
        if told is None:
            raise
        raise told from err


def info(address: RedisAddress, section: str = "server") -> dict[str, Any]:
    """Return what the server reports of itself, without a second try; raises redis-py's errors.

    Parameters
    ----------
    section
        Of Redis' INFO, such as `memory`.
    """
    from redis import exceptions

    with _client(address) as client:
        client.ping()
        try:
            return dict(client.info(section))
        except exceptions.NoPermissionError:
            return {}


def told_data(address: RedisAddress) -> Path | None:
    """Return the folder that the server says it works in; None if it does not say."""
    from redis import exceptions

    try:
        with _client(address) as client:
            return Path(client.config_get("dir")["dir"])
    except (exceptions.RedisError, KeyError):
        return None


def _client(address: RedisAddress) -> redis.Redis:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if address.tls is not None:
        address.tls.context()  # its error names the file that cannot be read
    return redis.Redis(
        host=address.host,
        port=address.port,
        **address.client_options(),
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),  # the default waits seconds for a server that is not there
    )


def _tls_problem(address: RedisAddress, where: str, error: Exception) -> RunnerError | None:
    """Return what is wrong between TLS and plain text; None if it is something else."""
    cause = error.__cause__ or error.__context__
    if address.tls is None:
        if address.socket is not None or not _speaks_tls(address):
            return None
        return RunnerError(
            f"what listens at {where} speaks TLS only",
            hint="write REDIS_URL=rediss://…?ssl_ca_certs=/path/to/ca.pem",
        )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RunnerError(
            f"Redis at {where}: its certificate is refused: {cause.verify_message}",
            hint=certificate_hint(cause),
        )
    was_closed = "closed by server" in str(error)  # redis-py then names no cause
    if was_closed or isinstance(cause, ssl.SSLError | TimeoutError | ConnectionError):
        if _speaks_tls(address):
            return RunnerError(f"Redis at {where} closes the connection", hint=CLIENT_CERTIFICATE)
        return RunnerError(
            f"what listens at {where} does not answer in TLS",
            hint="if it speaks plain Redis, write redis:// instead of rediss:// in REDIS_URL",
        )
    return None


def _speaks_tls(address: RedisAddress) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said after the handshake
    try:
        with (
            socket.create_connection((address.host, address.port), _ANSWER_SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False
