"""How an MLflow server is reached: its certificate, ours, and where a redirection may lead.

MLflow's own variables mean what they mean for its client (mlflow/utils/rest_utils.py), and so do
those of requests, which it is built on.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPMessage, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

from contract.certificate_files import Stamp, stamps
from contract.serving_errors import ConfigurationError

_CA = "MLFLOW_TRACKING_SERVER_CERT_PATH"
_CLIENT = "MLFLOW_TRACKING_CLIENT_CERT_PATH"
_INSECURE = "MLFLOW_TRACKING_INSECURE_TLS"
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False, "": False}
_PORTS = {"http": 80, "https": 443}
_MISMATCHES = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH


def opener(env: Mapping[str, str]) -> OpenerDirector:
    """Return what opens the addresses of the MLflow server that `env` describes."""
    return build_opener(_Redirections(), _Https(_Files.of(env)))


def certificate_hint(err: BaseException) -> str | None:
    """Return what to do where a certificate may be why TLS failed; None: it is something else."""
    if isinstance(err, ssl.SSLCertVerificationError):
        if err.verify_code in _MISMATCHES:
            return "write the name that its certificate was issued for into MLFLOW_TRACKING_URI"
        return f"set {_CA} to the PEM file of the authority that signed its certificate"
    # A server that misses our certificate says so, or the connection is gone before that is read.
    is_asked = isinstance(err, ssl.SSLError) and "CERTIFICATE" in (err.reason or "")
    if is_asked or isinstance(err, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)):
        return (
            f"if it asks for a client certificate, set {_CLIENT} to a PEM file of one and its key"
        )
    return None


class _Redirections(HTTPRedirectHandler):
    """Follows within HTTP; credentials stay with the origin that they are meant for."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in _PORTS:
            raise HTTPError(req.full_url, code, "redirected away from HTTP", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and origin(newurl) != origin(req.full_url):
            request.remove_header("Authorization")
        return request


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


class _Files(NamedTuple):
    """What the variables say about TLS."""

    ca: str
    client: str
    insecure: bool

    @classmethod
    def of(cls, env: Mapping[str, str]) -> _Files:
        insecure = _BOOLEANS.get(env.get(_INSECURE, "").lower())
        if insecure is None:
            raise ConfigurationError(f"{_INSECURE} is neither true nor false", hint="unset it")
        if insecure and env.get(_CA):
            raise ConfigurationError(
                f"{_INSECURE} and {_CA} are both set", hint="unset one of them"
            )
        bundle = next((env[name] for name in _BUNDLES if env.get(name)), "")
        return cls(env.get(_CA) or bundle, env.get(_CLIENT, ""), insecure)


class _Https(HTTPSHandler):
    """Reads the files when an https:// address is opened: a plain server needs none."""

    def __init__(self, files: _Files) -> None:
        super().__init__()
        self._files = files

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(
            HTTPSConnection,
            req,
            context=_context(self._files, stamps(self._files.ca, self._files.client)),
        )


@lru_cache(maxsize=4)
def _context(files: _Files, _read_at: tuple[Stamp, ...]) -> ssl.SSLContext:
    ca = Path(files.ca) if files.ca else None
    try:
        if ca is not None and not files.insecure:
            folder, file = (ca, None) if ca.is_dir() else (None, ca)
            context = ssl.create_default_context(cafile=file, capath=folder)
        else:
            context = ssl.create_default_context()
    except OSError as err:
        raise ConfigurationError(
            f"{ca}: no certificates can be read", hint=f"correct {_CA}, or {_BUNDLES[0]}"
        ) from err
    if files.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.client:
        try:
            context.load_cert_chain(files.client, password="")
        except OSError as err:
            raise ConfigurationError(
                f"{files.client}: no certificate with its key can be read",
                hint=f"set {_CLIENT} to a PEM file that holds both, without a passphrase",
            ) from err
    return context
