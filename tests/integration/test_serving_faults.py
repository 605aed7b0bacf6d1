"""Whatever breaks, no answer is lost and none is wrong: right, or 503 and asked again later."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from runner.servers.redis_server import embedded_binary
from tests.conftest import free_port
from tests.serving_bundles import OnlineStore, register, write_linear_bundle
from tests.serving_load import Load, load
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

ROW = {"user_id": 1, "category_id": "toys"}
KNOWN = pytest.approx(1 / (1 + 2.718281828459045 ** (-2 * 1.5)), abs=1e-6)
FLUSHED = pytest.approx(0.5, abs=1e-6)


class Store:
    """A Redis-protocol server that the tests may kill, stop and start again."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._binary = binary
        self.start()
        OnlineStore(self.url).write_user(1, "toys")
        redis.Redis.from_url(self.url).save()

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [str(self._binary), "--port", str(self.port), "--dir", str(self._folder), *options],
            stdout=subprocess.DEVNULL,
        )
        client = redis.Redis.from_url(self.url)
        while True:
            with suppress(redis.ConnectionError, redis.AuthenticationError):
                client.ping()
                return
            if "--requirepass" in options:
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", self.port)).close()
                    return

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture(name="store")
def _store(tmp_path: Path, redis_binary: Path | None) -> Iterator[Store]:
    store = Store(tmp_path, redis_binary or embedded_binary())
    yield store
    store.kill()


@pytest.fixture(name="bundle")
def _bundle(tmp_path: Path) -> Path:
    write_linear_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def check(running: Load, *expected: Any) -> None:
    """Assert that every answer is right, or a 503 that says so."""
    assert not running.lost
    for status, body in running.answers:
        if status == 503:
            assert body["error"]["code"] == "online_store_unavailable"
        else:
            assert status == 200
            assert body["predictions"][0]["probabilities"]["1"] in expected


def test_redis_killed_and_started_again_under_load(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server:
        with load(server, ROW) as running:
            running.await_status(200)
            store.kill()
            running.await_status(503)
            store.start()
            running.await_status(200)
        check(running, KNOWN)


def test_redis_that_hangs_is_given_up_and_taken_back(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url, SERVING_REDIS_TIMEOUT_SECONDS="0.08") as server:
        with load(server, ROW) as running:
            running.await_status(200)
            store.pause()
            running.await_status(503)
            store.resume()
            running.await_status(200)
        check(running, KNOWN)


def test_an_answer_that_is_not_ready_in_time_is_given_up(store: Store, bundle: Path) -> None:
    limits = {"SERVING_REDIS_TIMEOUT_SECONDS": "60", "SERVING_TIMEOUT_SECONDS": "0.3"}
    with serving(bundle, store.url, **limits) as server, server.client() as client:
        store.pause()
        late = predict(client, ROW)
        in_flight = client.get("/metrics").text
        store.resume()
        again = predict(client, ROW)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "timeout")
    assert "serving_in_flight 0.0" in in_flight
    assert again.json()["predictions"][0]["probabilities"]["1"] == KNOWN


def test_redis_flushed_under_load_means_missing_features(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server:
        with load(server, ROW) as running:
            running.await_status(200)
            redis.Redis.from_url(store.url).flushall()
            running.await_status(200)
        check(running, KNOWN, FLUSHED)
        assert running.answers[-1][1]["predictions"][0]["probabilities"]["1"] == FLUSHED


def test_redis_that_drops_its_clients_under_load(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server:
        with load(server, ROW) as running:
            for _ in range(5):
                running.await_status(200)
                redis.Redis.from_url(store.url).client_kill_filter(_type="normal", skipme=True)
        check(running, KNOWN)


def test_readiness_follows_the_online_store(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server, server.client() as client:
        store.kill()
        while (answer := client.get("/ready")).status_code == 200:
            time.sleep(0.01)
        assert answer.json()["online_store"] is False
        unavailable = predict(client, ROW)
        assert unavailable.status_code == 503
        assert unavailable.headers["Retry-After"] == "1"
        store.start()
        server.wait_until_ready()
        assert "serving_redis_failures_total 0.0" not in client.get("/metrics").text


def test_a_store_that_wants_another_password_is_told_in_the_log(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server, server.client() as client:
        store.kill()
        server.wait_for("online store unavailable")
        start = len(server.lines)
        store.start("--requirepass", "secret")
        refused = server.wait_for("online store unavailable", start)
        assert "NOAUTH" in refused["reason"]
        assert predict(client, ROW).status_code == 503


def test_a_store_that_refuses_a_read_is_unavailable(store: Store, bundle: Path) -> None:
    """Such as a key of another kind: nothing of Redis's words reaches the client."""
    with serving(bundle, store.url) as server, server.client() as client:
        online = OnlineStore(store.url)
        name = online.write("user_demographics", {"user_id": 7}, {"age": 1})
        online.client.delete(name)
        online.client.set(name, b"text")
        answer = predict(client, {"user_id": 7, "category_id": "toys"})
        assert answer.status_code == 503
        assert "WRONGTYPE" not in answer.text
        assert "WRONGTYPE" in server.wait_for("online store refused a command")["reason"]
        assert predict(client, ROW).status_code == 200


def test_a_server_that_is_not_redis_is_not_believed(bundle: Path, store: Store) -> None:
    with serving(bundle, store.url) as server, server.client() as client:
        store.kill()
        with socket.create_server(("127.0.0.1", store.port)) as stranger:
            connection, _ = stranger.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert client.get("/ready").status_code == 503
                connection.recv(1000)
                while connection.recv(1000):
                    pass


def test_login_and_database_are_those_of_the_url(store: Store, bundle: Path) -> None:
    client = redis.Redis.from_url(store.url)
    client.config_set("requirepass", "p@ss")
    url = f"redis://:p%40ss@127.0.0.1:{store.port}/3"
    OnlineStore(url).write_user(1, "toys")
    with serving(bundle, url) as server, server.client() as http:
        (answer,) = predict(http, ROW).json()["predictions"]
    assert answer["probabilities"]["1"] == KNOWN


def test_sigterm_under_load_loses_no_request(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url, SERVING_DRAIN_SECONDS="0.5") as server:
        with load(server, ROW, clients=24) as running:
            running.await_status(200)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("draining")
            with server.client() as client:
                answer = client.get("/ready")
                assert answer.status_code == 503
                assert answer.json()["draining"] is True
                assert answer.headers["Connection"] == "close"
            running.await_status(200)
            running.join()
        assert server.wait() == 0
        check(running, KNOWN)
        assert {status for status, _ in running.answers} == {200}


def test_a_second_sigterm_does_not_wait(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url, SERVING_DRAIN_SECONDS="600") as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        server.process.send_signal(signal.SIGTERM)
        server.wait()


@pytest.fixture(name="tracking_uri")
def _tracking_uri(tmp_path: Path) -> Iterator[str]:
    previous = Path.cwd()
    os.chdir(tmp_path)
    yield f"sqlite:///{tmp_path / 'mlflow.db'}"
    os.chdir(previous)


def test_promotions_and_rollbacks_under_load_drop_nothing(
    store: Store, tmp_path: Path, tracking_uri: str
) -> None:
    from mlflow import MlflowClient

    shares = {}
    for intercept in (0.0, 1.0):
        folder = tmp_path / f"bundle{intercept}"
        write_linear_bundle(folder, intercept=intercept)
        version = register(tracking_uri, folder)
        shares[version] = 1 / (1 + 2.718281828459045 ** (-2 * (intercept + 1.5)))
    client = MlflowClient(tracking_uri, tracking_uri)
    env = {"MLFLOW_TRACKING_URI": tracking_uri, "SERVING_RELOAD_SECONDS": "0.05"}
    with (
        serving("models:/purchase@champion", store.url, **env) as server,
        load(server, ROW) as running,
    ):
        for version in ("1", "2", "1"):
            client.set_registered_model_alias("purchase", "champion", version)
            running.await_answer(version)
    assert not running.lost
    for status, body in running.answers:
        assert status == 200
        share = body["predictions"][0]["probabilities"]["1"]
        assert share == pytest.approx(shares[body["model"]["version"]], abs=1e-6)


def test_a_broken_bundle_is_refused_and_the_old_model_keeps_serving(
    store: Store, tmp_path: Path, tracking_uri: str
) -> None:
    from mlflow import MlflowClient

    write_linear_bundle(tmp_path / "bundle")
    register(tracking_uri, tmp_path / "bundle")
    env = {"MLFLOW_TRACKING_URI": tracking_uri, "SERVING_RELOAD_SECONDS": "0.05"}
    with (
        serving("models:/purchase@champion", store.url, **env) as server,
        server.client() as client,
    ):
        (tmp_path / "bundle" / "model.onnx").write_bytes(b"broken")
        register(tracking_uri, tmp_path / "bundle")
        reason = server.wait_for("model not loaded")["reason"]
        assert "content does not match the SHA-256" in reason
        model = client.get("/model").json()
        assert (model["version"], model["refused_version"]) == ("1", "2")
        assert predict(client, ROW).json()["model"]["version"] == "1"
        MlflowClient(tracking_uri, tracking_uri).set_registered_model_alias(
            "purchase", "champion", "1"
        )
        while client.get("/model").json()["refused_version"] is not None:
            time.sleep(0.01)
        assert "serving_reload_failures_total 1.0" in client.get("/metrics").text


def test_a_registry_that_goes_away_does_not_matter_to_serving(
    store: Store, tmp_path: Path, tracking_uri: str
) -> None:
    write_linear_bundle(tmp_path / "bundle")
    register(tracking_uri, tmp_path / "bundle")
    env = {"MLFLOW_TRACKING_URI": tracking_uri, "SERVING_RELOAD_SECONDS": "0.05"}
    with (
        serving("models:/purchase@champion", store.url, **env) as server,
        server.client() as client,
    ):
        (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
        server.wait_for("model not loaded")
        assert predict(client, ROW).status_code == 200
        (tmp_path / "away.db").rename(tmp_path / "mlflow.db")
        write_linear_bundle(tmp_path / "next", intercept=1.0)
        version = register(tracking_uri, tmp_path / "next")
        while predict(client, ROW).json()["model"]["version"] != version:
            time.sleep(0.01)


def test_a_hundred_connections_are_all_answered(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server:
        running = Load(server, [ROW], clients=100)
        running.start()
        running.await_status(200, more=1_000)
        running.stop()
        check(running, KNOWN)
        assert {status for status, _ in running.answers} == {200}


def test_a_request_in_flight_at_sigterm_is_answered(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server:
        host, port = server.url.removeprefix("http://").split(":")
        body = b'{"entity_rows":[{"user_id":1,"category_id":"toys"}]}'
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            sock.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            with server.client() as client:
                while "serving_in_flight 1.0" not in client.get("/metrics").text:
                    time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("draining")
            sock.sendall(body)
            answer = b""
            while part := sock.recv(4096):
                answer += part
        assert b" 200 OK" in answer
        assert b'"prediction":1' in answer
        assert server.wait() == 0


def test_an_answer_that_was_awaited_at_sigterm_closes_its_connection(
    store: Store, bundle: Path
) -> None:
    """Without SERVING_DRAIN_SECONDS being over, after which every connection is closed."""
    with (
        serving(bundle, store.url, SERVING_DRAIN_SECONDS="600") as server,
        server.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        store.pause()
        asked = pool.submit(predict, client, ROW)
        with server.client() as other:
            while "serving_in_flight 1.0" not in other.get("/metrics").text:
                time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        store.resume()
        answer = asked.result()
        assert answer.status_code == 200
        assert answer.headers["Connection"] == "close"
        server.process.send_signal(signal.SIGTERM)


def test_more_requests_at_once_than_allowed_are_refused_with_429(
    store: Store, bundle: Path
) -> None:
    # Longer than any machine stands still: the request waits until the store goes on.
    limits = {"SERVING_REDIS_TIMEOUT_SECONDS": "60", "SERVING_TIMEOUT_SECONDS": "60"}
    with (
        serving(bundle, store.url, SERVING_MAX_CONCURRENCY="1", **limits) as server,
        server.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        store.pause()
        asked = pool.submit(predict, client, ROW)
        with server.client() as other:
            while "serving_in_flight 1.0" not in other.get("/metrics").text:
                assert not asked.done(), asked.result().text
            refused = predict(other, ROW)
            store.resume()
            assert asked.result().status_code == 200
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert predict(other, ROW).status_code == 200


def test_an_upload_under_way_takes_nobodys_place(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url, SERVING_MAX_CONCURRENCY="1") as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as sock, server.client() as c:
            sock.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            while "serving_in_flight 1.0" not in c.get("/metrics").text:
                pass
            assert predict(c, ROW).status_code == 200


def test_nothing_listens_after_the_end(store: Store, bundle: Path) -> None:
    with serving(bundle, store.url) as server:
        url = server.url
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
