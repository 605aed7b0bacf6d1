"""The few calls of MLflow's REST API that serving needs, with the standard library."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request

from contract.bundle import MANIFEST
from contract.mlflow_transport import certificate_hint, opener, origin
from contract.serving_errors import BundleError, ConfigurationError, RegistryError

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_SECONDS = 10.0  # unless MLflow's own variable says otherwise
_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class MlflowServer:
    """An MLflow tracking server with its registry and, usually, its artifact proxy."""

    def __init__(self, url: str, env: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._headers = _credentials(env)
        self._opener = opener(env)
        self._seconds = _seconds(env)

    def require(self) -> None:
        """Return if the server answers as MLflow and lets us in.

        Raises
        ------
        RegistryError
            If it does not.
        """
        if self.get("experiments/search", max_results="1") is None:
            raise RegistryError(
                f"what answers at {self._url} is not an MLflow server",
                hint="check MLFLOW_TRACKING_URI",
            )

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """Return the answer of `GET /api/2.0/mlflow/<path>`, or None if there is no such thing.

        Raises
        ------
        RegistryError
            If the server does not answer, or answers otherwise.
        """
        return self._answer(f"/api/2.0/mlflow/{path}?{urlencode(query)}")

    def search(self, path: str, wanted: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer of `POST /api/2.0/mlflow/<path>`; empty if there is no such thing.

        Raises
        ------
        RegistryError
            If the server does not answer, or not as MLflow does.
        """
        return self._answer(f"/api/2.0/mlflow/{path}", json.dumps(wanted).encode()) or {}

    def _answer(self, path: str, body: bytes | None = None) -> dict[str, Any] | None:
        try:
            with self._open(path, body) as response:
                answer: dict[str, Any] = json.load(response)
        except HTTPError as err:
            # An alias that does not exist is INVALID_PARAMETER_VALUE, a model RESOURCE_DOES_NOT_…
            if err.code in {HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST}:
                return None
            raise self._failed(err) from err
        except (OSError, HTTPException, ValueError) as err:
            raise self._failed(err) from err
        return answer

    def download(self, path: str, folder: Path) -> None:
        """Save the bundle at the artifact path into `folder`; its digests are checked later.

        Raises
        ------
        RegistryError
            If the server does not answer.
        BundleError
            If the bundle is incomplete, or names a file outside its folder.
        """
        self._save(f"{path}/{MANIFEST}", folder / MANIFEST)
        try:
            names = [str(name) for name in json.loads((folder / MANIFEST).read_bytes())["files"]]
        except (ValueError, KeyError, TypeError) as err:
            raise BundleError(f"{path}/{MANIFEST}: not a manifest", hint="train again") from err
        for name in names:
            if Path(name).name != name:
                raise BundleError(f"{path}: {name} is not a plain file name", hint="train again")
            self._save(f"{path}/{name}", folder / name)

    def read(self, path: str) -> bytes:
        """Return the content of the artifact at the path.

        Raises
        ------
        RegistryError
            If the server does not answer.
        BundleError
            If there is no such artifact.
        """
        with self._artifact(path) as response:
            return response.read()

    def _save(self, path: str, target: Path) -> None:
        with self._artifact(path) as response, target.open("wb") as file:
            shutil.copyfileobj(response, file)

    @contextmanager
    def _artifact(self, path: str) -> Iterator[HTTPResponse]:
        try:
            with self._open(f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}") as response:
                yield response
        except HTTPError as err:
            if err.code == HTTPStatus.NOT_FOUND:
                raise BundleError(f"{path}: no such artifact", hint="train again") from err
            raise self._failed(err) from err
        except (OSError, HTTPException) as err:
            raise self._failed(err) from err

    def _open(self, path: str, body: bytes | None = None) -> HTTPResponse:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        request = Request(self._url + path, body, headers)  # noqa: S310 - http(s) only
        response: HTTPResponse = self._opener.open(request, timeout=self._seconds)
        return response

    def _failed(self, err: Exception) -> RegistryError:
        if isinstance(err, HTTPError) and err.code in _REFUSALS:
            if origin(err.url) != origin(self._url):
                scheme, host, port = origin(err.url)
                return RegistryError(
                    f"the MLflow server at {self._url} redirects to another one, which refuses us "
                    f"({err.code} {HTTPStatus(err.code).phrase}): credentials go only to the "
                    "address in MLFLOW_TRACKING_URI",
                    hint=f"if you trust it, set MLFLOW_TRACKING_URI={scheme}://{host}:{port}",
                )
            return RegistryError(
                f"the MLflow server at {self._url} refuses the credentials "
                f"({err.code} {HTTPStatus(err.code).phrase})",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN",
            )
        cause = err.reason if isinstance(err, URLError) else err
        hint = certificate_hint(cause) if isinstance(cause, Exception) else None
        if hint is not None and self._url.startswith("https://"):
            return RegistryError(
                f"no TLS with the MLflow server at {self._url}: {cause}", hint=hint
            )
        if isinstance(err, URLError) and not isinstance(err, HTTPError):
            reason = err.reason.strerror if isinstance(err.reason, OSError) else None
            return RegistryError(
                f"the MLflow server at {self._url} does not answer: {reason or err.reason}",
                hint="start it, or check MLFLOW_TRACKING_URI",
            )
        return RegistryError(
            f"the MLflow server at {self._url} does not answer as expected ({err})",
            hint="check MLFLOW_TRACKING_URI",
        )


def _seconds(env: Mapping[str, str]) -> float:
    """Return how long to wait for an answer: MLflow's own variable is whole seconds above 0."""
    text = env.get(_TIMEOUT)
    if not text:
        return _SECONDS
    if not text.isdecimal() or int(text) == 0:
        raise ConfigurationError(
            f"{_TIMEOUT}={text!r} is not a number of seconds", hint="unset it to use 10"
        )
    return float(text)


def _credentials(env: Mapping[str, str]) -> dict[str, str]:
    """Return the header that MLflow's own client would send."""
    user, password = env.get("MLFLOW_TRACKING_USERNAME"), env.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    if token := env.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}
