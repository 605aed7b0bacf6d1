"""An online store that was emptied behind the server's back does not look like health."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.redis_address import RedisAddress
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import predict, serving

pytestmark = pytest.mark.servers

_KNOWN = [{"user_id": 1, "category_id": "toys"}] * 100
_EMPTY = "the online store is empty or stale for this model"
_FULL = "the online store has this model's features again"


@pytest.mark.parametrize(("strict", "status"), [("false", 200), ("true", 503)])
def test_an_emptied_store_is_told_until_it_is_filled(
    tmp_path: Path, redis_server: RedisAddress, strict: str, status: int
) -> None:
    store = OnlineStore(redis_server.url)
    store.write_user(1, "toys")
    write_linear_bundle(tmp_path)
    with (
        serving(tmp_path, redis_server.url, SERVING_READY_NEEDS_FEATURES=strict) as server,
        server.client() as client,
    ):
        predict(client, *_KNOWN)
        assert client.get("/ready").json()["features_stale"] is False
        store.client.flushall()
        for _ in range(2):
            predict(client, *_KNOWN)
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["features_stale"]) == (status, True)
        assert "serving_recent_absent_share 1.0" in client.get("/metrics").text
        store.write_user(1, "toys")
        predict(client, *_KNOWN)
        assert client.get("/ready").json()["features_stale"] is False
        server.wait_for(_FULL)
    told = [line["message"] for line in server.lines if isinstance(line, dict)]
    assert (told.count(_EMPTY), told.count(_FULL)) == (1, 1)
