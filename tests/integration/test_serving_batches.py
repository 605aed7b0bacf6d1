"""Requests that are there together share a read and a run of the model, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from contract import redis_address
from contract.model_registry import FolderSource
from contract.redis_address import RedisAddress
from contract.serving_settings import Limits
from serving.batches import Batches
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient
from serving.http.asgi import Caller
from serving.metrics import Metrics
from tests.serving_bundles import (
    OnlineStore,
    entity_key,
    inputs_of,
    manifest,
    write_bundle,
    write_linear_bundle,
)

pytestmark = pytest.mark.servers

Outcomes = list[Any]
TURN: Any = object()
"""Between two requests: the second comes a turn of the event loop later."""


@pytest.fixture(name="ask", scope="module")
def _ask(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress) -> Any:
    """A function that asks requests, all in one turn unless told; returns outcomes and metrics."""
    store = OnlineStore(redis_server.url)
    for user_id in range(300):
        store.write_user(user_id, "toys", orders=user_id)
    store.client.set(entity_key({"user_id": 400}), "not a hash")
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    return _asks(folder, redis_server.url)


def _asks(folder: Path, redis_url: str) -> Any:
    async def ask(requests: list[bytes], give_up: int | None) -> tuple[Outcomes, Metrics]:
        metrics = Metrics()
        champion = ChampionWatch(FolderSource(folder), metrics, 0)
        champion.refresh()
        online = OnlineStoreClient(redis_address.RedisAddress.from_url(redis_url), 5)
        await online.start()
        batches = Batches(champion, online, metrics, Limits(seconds=10.0))
        futures = []
        for request in requests:
            if request is TURN:
                await asyncio.sleep(0)
            else:
                futures.append(batches.predict(request, Caller()))
        if give_up is not None:
            futures[give_up].cancel()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        await online.stop()
        return outcomes, metrics

    def ask_at_once(*requests: bytes, give_up: int | None = None) -> Any:
        return asyncio.run(ask(list(requests), give_up))

    return ask_at_once


Ask = Callable[..., tuple[Outcomes, Metrics]]


def _request(*user_ids: Any, strict: bool = False) -> bytes:
    rows = [{"user_id": user_id, "category_id": "toys"} for user_id in user_ids]
    content = {"entity_rows": rows, "include_features": True, "strict": strict}
    return json.dumps(content).encode()


def _orders(outcome: Any) -> list[Any]:
    name = "user_activity__orders_7d"
    return [answer["features"][name]["value"] for answer in outcome["predictions"]]


def _sample(metrics: Metrics, name: str) -> float:
    lines = metrics.exposition().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_each_request_gets_its_own_rows_in_their_order_from_one_read(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), _request(3, 2, 3), _request(1))
    assert [_orders(outcome) for outcome in outcomes] == [[1], [3, 2, 3], [1]]
    assert _sample(metrics, "serving_redis_seconds_count") == 1
    assert _sample(metrics, "serving_rows_total") == 5


def test_who_comes_while_several_are_read_is_taken_along(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), _request(2), TURN, _request(3))
    assert [_orders(outcome) for outcome in outcomes] == [[1], [2], [3]]
    assert _sample(metrics, "serving_redis_seconds_count") == 1


def test_a_request_that_is_alone_waits_for_nobody(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), TURN, _request(2))
    assert [_orders(outcome) for outcome in outcomes] == [[1], [2]]
    assert _sample(metrics, "serving_redis_seconds_count") == 2


def test_a_strict_request_in_error_fails_alone(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), _request(2, "x", strict=True), _request("x", 4))
    assert _orders(outcomes[0]) == [1]
    assert outcomes[1].message == "entity_rows[1]: user_id must be an integer of 64 bits"
    refused, predicted = outcomes[2]["predictions"]
    assert refused["error"]["code"] == "invalid_entity_row"
    assert predicted["features"]["user_activity__orders_7d"]["value"] == 4
    assert _sample(metrics, "serving_rows_total") == 2


def test_a_key_that_the_store_refuses_to_read_fails_only_who_asked_for_it(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), _request(2, 400), _request(3))
    assert [_orders(outcomes[0]), _orders(outcomes[2])] == [[1], [3]]
    assert outcomes[1].code == "online_store_unavailable"
    assert _sample(metrics, "serving_redis_failures_total") == 1


def test_a_request_that_was_given_up_leaves_the_others_their_answers(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), _request(2), _request(3), give_up=1)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert [_orders(outcomes[0]), _orders(outcomes[2])] == [[1], [3]]
    assert _sample(metrics, "serving_rows_total") == 2


def test_large_requests_have_a_turn_each(tmp_path: Path, redis_server: RedisAddress) -> None:
    write_linear_bundle(tmp_path)
    turns: list[int] = []

    async def count() -> None:
        """Count the turns of the event loop; note in which one each request was answered."""
        champion = ChampionWatch(FolderSource(tmp_path), metrics := Metrics(), 0)
        champion.refresh()
        online = OnlineStoreClient(redis_address.RedisAddress.from_url(redis_server.url), 5)
        await online.start()
        batches, turn = Batches(champion, online, metrics, Limits(seconds=10.0)), 0
        futures = [batches.predict(_request(*range(100)), Caller()) for _ in range(5)]
        for future in futures:
            future.add_done_callback(lambda _: turns.append(turn))
        while len(turns) < len(futures):
            await asyncio.sleep(0)
            turn += 1
        await online.stop()

    asyncio.run(count())
    assert len(set(turns)) == len(turns)


def test_large_requests_are_answered_beside_small_ones(ask: Ask) -> None:
    outcomes, metrics = ask(_request(1), _request(*range(300)), *[_request(i) for i in range(200)])
    assert _orders(outcomes[1]) == list(range(300))
    assert [_orders(outcome) for outcome in outcomes[2:]] == [[i] for i in range(200)]
    assert _sample(metrics, "serving_redis_seconds_count") == 4  # 1; 300; 128 and 72 rows


def test_a_row_that_the_model_cannot_take_fails_only_who_asked_for_it(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    numbers, texts = (tensor["columns"] for tensor in inputs_of(manifest()))
    store = OnlineStore(redis_server.url)
    for user_id in (501, 502, 503):
        store.write_user(user_id, "toys", orders=user_id)
    store.write("user_demographics", {"user_id": 502}, {"age": 0, "country": "nowhere"})
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(50, len(numbers))), columns=numbers)
    X[texts[0]] = ["NL", ""] * 25
    encoded = [("numbers", SimpleImputer(), numbers), ("texts", OneHotEncoder(), texts)]
    pipeline = make_pipeline(ColumnTransformer(encoded), LogisticRegression()).fit(
        X.astype(dict.fromkeys(numbers, np.float32)), X[numbers[0]] > 0
    )
    write_bundle(tmp_path, skops.io.dumps(pipeline), manifest(), file="model.skops")
    outcomes, metrics = _asks(tmp_path, redis_server.url)(
        _request(501), _request(502, 503), _request(503)
    )
    assert [_orders(outcomes[0]), _orders(outcomes[2])] == [[501], [503]]
    assert isinstance(outcomes[1], ValueError)
    assert _sample(metrics, "serving_rows_total") == 2
