"""Explanations over HTTP: what they say, who gets none, and who does not wait for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.explainer import Explained, Explainer
from contract.model_registry import FolderSource
from contract.redis_address import RedisAddress
from contract.serving_settings import Limits
from serving.batches import Batches
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient
from serving.http.asgi import Caller
from serving.metrics import Metrics
from tests.serving_bundles import FEATURES, OnlineStore, write_linear_bundle
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

NAMES = [f"{view}__{feature}" for view, feature, *_ in FEATURES]
KNOWN = {"user_id": 1, "category_id": "toys"}
UNKNOWN = {"user_id": 999, "category_id": "toys"}


@pytest.fixture(name="store", scope="module", autouse=True)
def _store(redis_server: RedisAddress) -> OnlineStore:
    store = OnlineStore(redis_server.url)
    store.write_user(1, "toys", orders=3)
    return store


@pytest.fixture(name="client", scope="module")
def _client(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("bundle")
    rules = {"user_demographics": "null"}
    write_linear_bundle(
        folder, intercept=-4.0, explained=True, on_missing_entity=rules, format_version=3
    )
    with serving(folder, redis_server.url) as server, server.client() as client:
        yield client


def _answers(client: httpx.Client, *rows: Any, **more: Any) -> list[Any]:
    response = predict(client, *rows, **more)
    assert response.status_code == 200, response.text
    answers: list[Any] = response.json()["predictions"]
    return answers


def test_base_value_and_contributions_add_up_to_the_log_odds(client: httpx.Client) -> None:
    [answer] = _answers(client, KNOWN, include_explanations=True, include_features=True)
    explanation = answer["explanation"]
    assert (explanation["score"], explanation["class"]) == ("log_odds", "1")
    assert set(explanation["contributions"]) == set(NAMES)
    assert explanation["base_value"] == -8.0
    assert explanation["contributions"]["user_activity__orders_7d"] == 6.0
    log_odds = explanation["base_value"] + sum(explanation["contributions"].values())
    share = answer["probabilities"]["1"]
    assert log_odds == pytest.approx(np.log(share / (1 - share)), abs=1e-4)


def test_they_change_nothing_else_of_an_answer_and_are_off_unless_asked_for(
    client: httpx.Client,
) -> None:
    plain = _answers(client, KNOWN, UNKNOWN)
    explained = _answers(client, KNOWN, UNKNOWN, include_explanations=True)
    assert all("explanation" not in answer for answer in plain)
    assert [{**answer, "explanation": 0} for answer in plain] == [
        {**answer, "explanation": 0} for answer in explained
    ]


def test_a_row_without_a_prediction_has_no_explanation(client: httpx.Client) -> None:
    unknown, wrong = _answers(
        client, UNKNOWN, {"user_id": "x", "category_id": "toys"}, include_explanations=True
    )
    assert (unknown["prediction"], unknown["explanation"]) == (None, None)
    assert set(wrong) == {"error"}


def test_a_regression_is_explained_in_its_own_unit(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    write_linear_bundle(tmp_path, intercept=5.0, task="regression", explained=True)
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        [answer] = _answers(client, KNOWN, include_explanations=True)
    explanation = answer["explanation"]
    assert set(explanation) == {"score", "base_value", "contributions"}
    assert explanation["score"] == "label"
    total = explanation["base_value"] + sum(explanation["contributions"].values())
    assert total == pytest.approx(answer["prediction"])


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (None, "was trained by an earlier release; train again"),
        ({"unavailable": "GaussianNB has no exact contributions"}, "GaussianNB has no exact"),
        ({"steps": 9_000_000}, "9,000,000 steps to explain, and requests may take 3,000,000; use"),
    ],
)
def test_a_model_without_explanations_says_why_and_predicts_all_the_same(
    tmp_path: Path, redis_server: RedisAddress, spec: dict[str, Any] | None, reason: str
) -> None:
    write_linear_bundle(tmp_path, explained=True)
    path = tmp_path / "serving.json"
    content = json.loads(path.read_text())
    content["explanation"] = spec and {**content["explanation"], **spec}
    path.write_text(json.dumps(content))
    with serving(tmp_path, redis_server.url) as server, server.client() as client:
        assert _answers(client, KNOWN)[0]["prediction"] == 1
        response = predict(client, KNOWN, include_explanations=True)
        document = client.get("/openapi.json").json()
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "explanations_unavailable"
    assert reason in error["message"]
    assert "explanation" not in document["components"]["schemas"]["Prediction"]["properties"]


class _World:
    """A server's batches in this process, whose explanations last as long as a test wants."""

    def __init__(self, folder: Path, redis_url: str, limits: Limits) -> None:
        champion = ChampionWatch(FolderSource(folder), metrics := Metrics(), 0)
        champion.refresh()
        self.online = OnlineStoreClient(RedisAddress.from_url(redis_url), 5)
        self.batches = Batches(champion, self.online, metrics, limits)

    def ask(self, rows: int, *, explain: bool) -> asyncio.Future[dict[str, Any]]:
        body = {"entity_rows": [KNOWN] * rows, "include_explanations": explain}
        return self.batches.predict(json.dumps(body).encode(), Caller())


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batches")
    write_linear_bundle(folder, explained=True)
    return folder


async def _until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


def test_predictions_do_not_wait_while_explanations_fill_their_line(
    folder: Path, redis_server: RedisAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go_on = threading.Event()
    rows = Explainer.rows

    def slow(self: Explainer, values: Any) -> Explained:
        assert go_on.wait(10)
        return rows(self, values)

    monkeypatch.setattr(Explainer, "rows", slow)

    async def run() -> None:
        world = _World(folder, redis_server.url, Limits(concurrency=32, seconds=10.0))
        await world.online.start()
        flood = [world.ask(1, explain=True) for _ in range(20)]
        await _until(lambda: sum(one.done() for one in flood) == 12)
        refused = [one.exception() for one in flood if one.done()]
        assert {error.code for error in refused} == {"too_many_requests"}  # type: ignore[union-attr]
        plain = [world.ask(1, explain=False) for _ in range(24)]  # all the others
        answers = await asyncio.gather(*plain)
        assert all(answer["predictions"][0]["prediction"] == 1 for answer in answers)
        assert not any(one.done() for one in flood[:8])
        go_on.set()
        for answer in await asyncio.gather(*flood[:8]):
            assert answer["predictions"][0]["explanation"]["base_value"] == 0
        assert (await world.ask(1, explain=True))["predictions"][0]["explanation"]
        await world.online.stop()

    asyncio.run(run())


def test_small_requests_take_turns_with_large_ones_whose_rows_are_limited(
    folder: Path, redis_server: RedisAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "serving.explanation_line._TURN_WORK", 150_000
    )  # ten rows of a linear model
    monkeypatch.setattr("serving.explanation_line._REQUEST_WORK", 15_000_000)

    async def run() -> None:
        world = _World(folder, redis_server.url, Limits(seconds=10.0, rows=2_000))
        await world.online.start()
        order: list[int] = []
        large = world.ask(1_000, explain=True)
        large.add_done_callback(lambda _: order.append(1_000))
        small = [world.ask(1, explain=True) for _ in range(5)]
        for one in small:
            one.add_done_callback(lambda _: order.append(1))
        answers = await asyncio.gather(large, *small)
        assert order == [1, 1, 1, 1, 1, 1_000]
        assert all(row["explanation"] for row in answers[0]["predictions"])
        with pytest.raises(Exception, match="1001 rows to explain; this model's limit is 1000"):
            await world.ask(1_001, explain=True)
        await world.online.stop()

    asyncio.run(run())


def test_rows_to_explain_are_read_no_faster_than_others(
    folder: Path, redis_server: RedisAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = [0]
    read = OnlineStoreClient.read

    async def counted(self: OnlineStoreClient, commands: Any) -> Any:
        at_once.append(at_once[-1] + 1)
        try:
            return await read(self, commands)
        finally:
            at_once.append(at_once[-1] - 1)

    monkeypatch.setattr(OnlineStoreClient, "read", counted)

    async def run() -> None:
        world = _World(folder, redis_server.url, Limits(concurrency=64, seconds=10.0))
        await world.online.start()
        asked = [world.ask(1_000, explain=True) for _ in range(6)]
        for answer in await asyncio.gather(*asked):
            assert len(answer["predictions"]) == 1_000
        await world.online.stop()

    asyncio.run(run())
    assert max(at_once) == 2  # the second begins while fewer than 1,024 rows are in work
