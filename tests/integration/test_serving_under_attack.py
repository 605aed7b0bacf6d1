"""What other clients see while some do their worst; benchmarks/serving_attack.py does it longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving_attack import ATTACKS, attack
from contract.redis_address import RedisAddress
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import Serving, serving

pytestmark = pytest.mark.servers


@pytest.fixture(name="server", scope="module")
def _server(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisAddress
) -> Iterator[Serving]:
    OnlineStore(redis_server.url).write_user(1, "toys")
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    # The machine may be busy with other tests: what is asked here is not how long it takes.
    limits = {"SERVING_TIMEOUT_SECONDS": "30", "SERVING_REDIS_TIMEOUT_SECONDS": "10"}
    with serving(folder, redis_server.url, **limits) as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_answered_under_attack(server: Serving, name: str) -> None:
    """The benchmark says how long it takes; here nobody else is refused, and memory is bounded."""
    report = attack(server.url, server.process.pid, name, seconds=1.5, connections=250)
    for path, seen in report["others"].items():
        assert seen["failed"] == 0, (path, report)
        assert seen["asked"] > 0, (path, report)
    assert report["rss_mb"] - report["rss_before_mb"] < 350, report
