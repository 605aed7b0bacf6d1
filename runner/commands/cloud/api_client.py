"""A running prediction API, asked over HTTP with the standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from runner.errors import RunnerError

_SECONDS = 60.0  # an instance that Cloud Run starts first asks MLflow, which may have to start too
_CLOUD_RUN = ".run.app"


class ApiClient:
    """Sends requests to one API.

    Parameters
    ----------
    url
        Such as `http://127.0.0.1:8000`.
    api_keys
        Those in SERVING_API_KEYS, separated by commas; the first is sent.
    """

    def __init__(self, url: str, api_keys: str = "") -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise RunnerError(
                f"{url!r} is not the address of an API",
                hint="name it as --url http://127.0.0.1:8000",
            )
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        key = api_keys.partition(",")[0].strip()
        if key:
            self._headers["X-API-Key"] = key
        if (urlsplit(url).hostname or "").endswith(_CLOUD_RUN):
            self._headers["Authorization"] = f"Bearer {_identity_token(self.url)}"
        self._opener = _opener()

    def get(self, path: str) -> Mapping[str, object]:
        """Return the JSON that answers `GET path`.

        Raises
        ------
        RunnerError
            If the API does not answer, or not with 200 and a JSON object.
        """
        return self._answer(path, None)

    def post(self, path: str, body: object) -> Mapping[str, object]:
        """Return the JSON that answers `POST path`; raises as `get` does."""
        return self._answer(path, json.dumps(body).encode())

    def _answer(self, path: str, body: bytes | None) -> Mapping[str, object]:
        address = self.url + path
        request = Request(address, body, self._headers)  # noqa: S310 - http(s) only
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                answer: object = json.load(response)
        except HTTPError as err:
            said = err.read(500).decode(errors="replace")
            raise RunnerError(
                f"{address} answers {err.code}: {said}", hint=_hint(err.code)
            ) from err
        except (OSError, HTTPException, ValueError) as err:
            raise RunnerError(
                f"{address} does not answer as a prediction API: {err}",
                hint="start it with `runner serve`, or name another --url",
            ) from err
        if not isinstance(answer, dict):
            raise RunnerError(
                f"{address} does not answer with a JSON object", hint="name another --url"
            )
        return answer


def _hint(status: int) -> str:
    if status in {401, 403}:
        return (
            "put one of the API's keys into SERVING_API_KEYS; on Cloud Run the account also "
            "needs the role roles/run.invoker"
        )
    return "read the API's log"


def _identity_token(url: str) -> str:
    """Return a token of this process's service account, for the service at `url`.

    Its audience is the service's own address, also for the address of one of its tags.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request as TokenRequest
    from google.oauth2.id_token import fetch_id_token

    audience = re.sub(r"^https://[^./]+---", "https://", url)
    try:
        return str(fetch_id_token(TokenRequest(), audience))  # type: ignore[no-untyped-call]
    except GoogleAuthError as err:
        raise RunnerError(
            f"no identity token for {audience}: {err}",
            hint="run it as a service account, as the job smoke-<recipe> does",
        ) from err


def _opener() -> OpenerDirector:
    """Return an opener without redirects: key and token are only for the given address."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener
