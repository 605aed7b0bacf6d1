"""Predictions from a Redis Cluster: each key from its owner, whatever moves or goes away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.feast_format import key_prefix
from contract.log_format import stream_key
from runner.online.connection import connect
from runner.online.online_config import OnlineConfig
from runner.settings import Settings
from tests.emulators.redis_servers import RedisServers, move_slot, redis_cluster
from tests.serving_bundles import PROJECT, OnlineStore, entity_key, write_linear_bundle
from tests.serving_load import load
from tests.serving_process import TIMEOUT, Serving, predict, serving

pytestmark = [pytest.mark.servers, pytest.mark.timeout(170)]

USERS = range(60)
ROWS = [{"user_id": user, "category_id": "toys"} for user in USERS]


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[RedisServers]:
    """A plain cluster that knows every user, each with as many orders as its number."""
    with redis_cluster(tmp_path / "redis") as cluster:
        store = OnlineStore(cluster.url)
        store.client = cluster.client()
        for user in USERS:
            store.write_user(user, "toys", orders=user)
        yield cluster


@pytest.fixture(name="server")
def _server(tmp_path: Path, cluster: RedisServers) -> Iterator[Serving]:
    write_linear_bundle(tmp_path / "bundle")
    with serving(tmp_path / "bundle", cluster.url) as server:
        yield server


def orders(answer: Any) -> list[int]:
    """Return the feature that tells which user was read."""
    assert answer.status_code == 200, answer.text
    return [
        one["features"]["user_activity__orders_7d"]["value"] for one in answer.json()["predictions"]
    ]


def test_each_row_gets_its_own_features_in_the_order_asked(server: Serving) -> None:
    with server.client() as client:
        for rows in (ROWS, ROWS[::-1]):
            read = orders(predict(client, *rows, include_features=True))
            assert read == [row["user_id"] for row in rows]


def test_a_slot_that_moves_under_load_is_followed_without_a_lost_answer(
    server: Serving, cluster: RedisServers
) -> None:
    with load(server, ROWS[7]) as running:
        running.await_status(200)
        move_slot(cluster, entity_key({"user_id": 7}))
        for _ in range(3):
            running.await_status(200)
    assert not running.lost
    assert {status for status, _ in running.answers} == {200}
    [known] = {str(body["predictions"][0]["prediction"]) for _, body in running.answers}
    assert known == "1"


def test_a_slot_on_its_way_is_read_where_its_keys_are(
    server: Serving, cluster: RedisServers
) -> None:
    """Half-way of a move the old owner answers ASK for the keys that have gone already."""
    key = entity_key({"user_id": 7})
    with cluster.client() as client:
        slot = client.keyslot(key)
        source = client.nodes_manager.get_node_from_slot(slot).port
    target = next(port for port in cluster.ports if port != source)
    old, new = cluster.node(source), cluster.node(target)
    new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(old))
    old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(new))
    old.execute_command("MIGRATE", "127.0.0.1", target, key, 0, 5_000)
    with server.client() as client:
        assert orders(predict(client, ROWS[7], include_features=True)) == [7]


def test_a_node_that_is_away_fails_its_rows_requests_only_and_readiness(
    server: Serving, cluster: RedisServers
) -> None:
    with cluster.client() as client:

        def owner(**keys: Any) -> int:
            slot = client.keyslot(entity_key(keys))
            return int(client.nodes_manager.get_node_from_slot(slot).port)

        owners = {
            user: {owner(user_id=user), owner(category_id="toys", user_id=user)} for user in USERS
        }
    away = cluster.ports[2]
    cluster.node(away).shutdown(nosave=True, now=True)
    hit = next(user for user in USERS if away in owners[user])
    missed = next(user for user in USERS if away not in owners[user])
    with server.client() as client:
        assert predict(client, ROWS[hit]).status_code == 503
        assert orders(predict(client, ROWS[missed], include_features=True)) == [missed]
        assert client.get("/ready").json()["online_store"] is False


def test_the_log_goes_on_where_its_slot_has_moved_to(
    server: Serving, cluster: RedisServers
) -> None:
    server.wait_for("serving log connected")
    with cluster.client() as store, server.client() as client:
        for moved in (False, True):
            if moved:
                move_slot(cluster, stream_key(PROJECT))
            before = store.xlen(stream_key(PROJECT))
            assert predict(client, ROWS[7]).status_code == 200
            deadline = time.monotonic() + TIMEOUT
            while store.xlen(stream_key(PROJECT)) == before:
                assert time.monotonic() < deadline


def _id(node: redis.Redis) -> str:
    told = node.execute_command("CLUSTER", "MYID")
    return told.decode() if isinstance(told, bytes) else str(told)


def test_a_sample_of_what_is_stored_is_drawn_from_every_node(cluster: RedisServers) -> None:
    settings = Settings("local", Path(), {"REDIS_URL": cluster.url})
    config = OnlineConfig("shop", None, is_cluster=True)
    prefix, suffix = key_prefix(["user_id"]), entity_key({"user_id": 1})[-4:]
    with connect(settings, config) as connection:
        some, _ = connection.sample(prefix, suffix, 10)
        whole, complete = connection.sample(prefix, suffix, 1_000)
        assert connection.sample(prefix, b"nobody", 10) == ([], True)
    assert (len(some), complete) == (10, True)
    assert set(whole) == {entity_key({"user_id": user}) for user in USERS}
