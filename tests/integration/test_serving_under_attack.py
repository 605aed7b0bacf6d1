"""What other clients see while some do their worst; benchmarks/serving_attack.py does it longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving_attack import ATTACKS, attack
from runner.settings import LocalRedis
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import Serving, serving

pytestmark = pytest.mark.servers


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: LocalRedis
) -> Iterator[Serving]:
    OnlineStore(redis_server.url).write_user(1, "toys")
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    with serving(folder, redis_server.url, SERVING_TIMEOUT_SECONDS="2") as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_answered_under_attack(server: Serving, name: str) -> None:
    """With room for a machine that is busy with other tests, and with the attack itself."""
    report = attack(server.url, server.process.pid, name, seconds=1.5, connections=250)
    for path, seen in report["others"].items():
        assert seen["failed"] == 0, (path, report)
        assert seen["asked"] > 1, (path, report)
        assert seen["p50_ms"] < 750, (path, report)
    assert report["p99_ms"] < 4_000, report  # from the first byte, at a limit of 2 s
    assert report["rss_mb"] - report["rss_before_mb"] < 350, report
