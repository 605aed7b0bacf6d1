"""A fault of ours tells the client a request id, and the log where it happened, and no more."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from contract.model_registry import ModelVersion
from contract.redis_address import RedisAddress
from contract.serving_errors import BundleError
from contract.serving_settings import Limits
from serving.app import create_app
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient
from serving.http.api_keys import ApiKeys
from serving.http.connections import Connections
from serving.http.guard import Lifecycle, RequestGuard
from serving.http_errors import ModelNotReadyError
from serving.logs import AccessLog
from serving.metrics import Metrics


def _ask(app: Any, **scope: Any) -> list[Any]:
    """Return what a request through the guard is answered with."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        log = AccessLog()
        guard = RequestGuard(
            app,
            keys=ApiKeys([]),
            metrics=Metrics(),
            access_log=log,
            lifecycle=Lifecycle(),
            connections=Connections(Limits(), Metrics()),
            endpoints={},
            writers=None,
        )
        request = {
            "type": "http",
            "method": "GET",
            "path": "/model",
            "http_version": "1.1",
            "headers": [(b"x-request-id", b"mine"), (b"host", b"localhost:8000")],
            "server": ("127.0.0.1", 80),
        }
        await guard(request | scope, receive, send)
        log.flush()

    asyncio.run(run())
    return sent


def _logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_unexpected_failure_is_an_opaque_500_with_the_request_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a customer's secret")

    start, body = _ask(app)
    assert start["status"] == 500
    assert (b"x-request-id", b"mine") in start["headers"]
    assert json.loads(body["body"]) == {
        "error": {"code": "internal_error", "message": "internal error", "request_id": "mine"}
    }
    failure, request = _logged(capsys)
    assert (failure["type"], failure["request_id"]) == ("ValueError", "mine")
    assert failure["frames"][-1].endswith(" app")
    assert request["status"] == 500
    assert "secret" not in json.dumps([failure, request])


def test_a_failure_after_the_answer_began_does_not_begin_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    assert [message["type"] for message in _ask(app)] == ["http.response.start"]
    assert _logged(capsys)[0]["message"] == "unexpected failure"


def test_a_failure_inside_fastapi_is_told_by_the_guard_too() -> None:
    registry = _Registry()
    metrics = Metrics()
    app = create_app(
        ChampionWatch(registry, metrics, 0),  # no model is loaded
        OnlineStoreClient(RedisAddress.from_url("redis://127.0.0.1:1"), 1),
        metrics,
        limits=Limits(),
        lifecycle=Lifecycle(),
    )
    start, body = _ask(app, path="/openapi.json", query_string=b"", root_path="")
    assert (start["status"], json.loads(body["body"])["error"]["code"]) == (503, "model_not_ready")


@pytest.mark.parametrize("server", [("192.0.2.1", 80), ("shop.example", 80), None])
def test_without_keys_only_loopback_is_answered(server: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    assert _ask(app, server=server)[0]["status"] == 403


async def _ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "127.0.0.1", "127.8.8.8:65535", "[::1]", "[::1]:8000"],
)
def test_without_keys_a_request_for_a_loopback_name_is_answered(host: str) -> None:
    assert _ask(_ok, headers=[(b"host", host.encode())])[0]["status"] == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("192.0.2.1", "[2001:db8::1]:80", "", "[]", ":80", "localhost:80:80", "localhost@evil"),
        "\xff",
    ],
)
def test_without_keys_a_request_for_another_name_is_refused(host: str) -> None:
    """Else a page whose name was made to point here could read what it is answered."""
    start, body = _ask(_ok, headers=[(b"host", host.encode())])
    assert start["status"] == 403
    assert json.loads(body["body"])["error"] == {
        "code": "forbidden",
        "message": "without API keys this server answers only as localhost, 127.0.0.1 or [::1]",
        "request_id": json.loads(body["body"])["error"]["request_id"],
    }


def test_without_keys_only_http_1_0_may_leave_the_host_out() -> None:
    statuses = [
        _ask(_ok, headers=[], http_version=version)[0]["status"] for version in ("1.0", "1.1")
    ]
    assert statuses == [200, 403]


def test_what_is_not_http_is_passed_on() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    assert _ask(app, type="lifespan") == []
    assert seen == ["lifespan"]


def test_the_access_log_is_written_by_the_hundreds_under_load(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run() -> int:
        log = AccessLog()
        for number in range(500):
            log.add(number=number)
        return len(_logged(capsys))

    assert asyncio.run(run()) == 500


class _Registry:
    """A source that answers what a test says."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def resolve(self) -> ModelVersion:
        if self.errors:
            raise self.errors.pop(0)
        return ModelVersion("m", "1", "/nowhere", "0")

    def bundle(self, _version: ModelVersion) -> Any:
        raise BundleError("broken", hint="train again")


def test_the_watch_outlives_whatever_a_registry_does(capsys: pytest.CaptureFixture[str]) -> None:
    registry = _Registry(KeyError("what"), BundleError("no tag"))

    reasons: list[str] = []

    async def run() -> ChampionWatch:
        champion = ChampionWatch(registry, Metrics(), 0.001)
        champion.start()
        while len(reasons) < 3:
            await asyncio.sleep(0)
            reasons.extend(line["reason"] for line in _logged(capsys))
        await champion.stop()
        return champion

    champion = asyncio.run(run())
    assert reasons == ["KeyError while asking the registry", "no tag", "broken"]
    assert champion.refused == (ModelVersion("m", "1", "/nowhere", "0"), "broken")
    with pytest.raises(ModelNotReadyError):
        _ = champion.current
    assert champion.ready is False
