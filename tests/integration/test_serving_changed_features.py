"""Values of another definition than the model was trained on are marked, counted and told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from contract.redis_address import RedisAddress
from contract.view_state import DIGESTS, state_key
from tests.serving_bundles import OnlineStore, manifest, write_linear_bundle
from tests.serving_process import serving

pytestmark = pytest.mark.servers

_ROW = {"entity_rows": [{"user_id": 1, "category_id": "toys"}], "include_features": True}


def _statuses(client: httpx.Client) -> dict[str, str]:
    (row,) = client.post("/predict", json=_ROW).json()["predictions"]
    return {name: feature["status"] for name, feature in row["features"].items()}


def _wait(client: httpx.Client, *, changed: bool) -> int:
    """Wait until `/ready` says so; return its status code."""
    deadline = time.monotonic() + 30
    while (ready := client.get("/ready")).json()["features_changed"] != changed:
        assert time.monotonic() < deadline
    return ready.status_code


@pytest.mark.parametrize(("strict", "status"), [("false", 200), ("true", 503)])
def test_values_of_another_definition_are_marked_until_they_are_those_again(
    tmp_path: Path, redis_server: RedisAddress, strict: str, status: int
) -> None:
    store = OnlineStore(redis_server.url)
    store.write_user(1, "toys")
    features = [feature | {"definition": "mine"} for feature in manifest()["features"]]
    first = features[0]
    key = state_key(manifest()["feast_project"], first["view"])
    write_linear_bundle(tmp_path, features=features)
    with (
        serving(tmp_path, redis_server.url, SERVING_READY_NEEDS_FEATURES=strict) as server,
        server.client() as client,
    ):
        assert set(_statuses(client).values()) == {"present"}  # nothing is known of its values
        store.client.hset(key, DIGESTS, json.dumps({first["feature"]: ["other"]}))
        assert _wait(client, changed=True) == status
        statuses = _statuses(client)
        assert statuses.pop(first["name"]) == "changed"
        assert set(statuses.values()) == {"present"}
        metrics = client.get("/metrics").text
        assert "serving_changed_features 1.0" in metrics
        counted = f'serving_feature_values_total{{feature="{first["name"]}",status="changed"}} 1.0'
        assert counted in metrics
        store.client.hset(key, DIGESTS, json.dumps({first["feature"]: ["other", "mine"]}))
        assert _wait(client, changed=False) == 200
        assert set(_statuses(client).values()) == {"present"}
    told = [line["message"] for line in server.lines if isinstance(line, dict)]
    assert told.count("the online store has other features than this model was trained on") == 1
