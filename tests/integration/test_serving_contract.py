"""What the OpenAPI document promises, the server keeps, for whatever Schemathesis thinks of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from contract.event_format import EventColumn, EventTable, event_tables_key
from contract.redis_address import RedisAddress
from tests.serving_bundles import FEATURES, PROJECT, OnlineStore, overridable, write_linear_bundle
from tests.serving_process import Serving, serving

pytestmark = pytest.mark.servers

KEY = "schemathesis-key-1"
NAMES = [f"{view}__{feature}" for view, feature, *_ in FEATURES]
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]


@pytest.fixture(name="server", scope="module", params=["classification", "regression"])
def _server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisAddress,
) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("bundle")
    # One of the two takes feature overrides, of every type.
    features = overridable(*NAMES) if request.param == "regression" else overridable()
    write_linear_bundle(folder, task=request.param, features=features, explained=True)
    store = OnlineStore(redis_server.url)
    store.write_user(1, "toys")
    table = EventTable("clicks", "raw_data", "clicks", "id", (EventColumn("id", "string"),))
    store.client.hset(event_tables_key(PROJECT), "clicks", table.dump())
    keys = {"SERVING_API_KEYS": KEY, "SERVING_EVENT_KEYS": KEY}
    with serving(folder, redis_server.url, **keys) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "method", "mode", "examples"),
    [
        ("/predict", "POST", GenerationMode.POSITIVE, 100),
        ("/predict", "POST", GenerationMode.NEGATIVE, 100),
        ("/events/{table}", "POST", GenerationMode.POSITIVE, 50),
        ("/events/{table}", "POST", GenerationMode.NEGATIVE, 50),
        # These take no parameters, so there is nothing to get wrong.
        ("/health", "GET", GenerationMode.POSITIVE, 5),
        ("/ready", "GET", GenerationMode.POSITIVE, 5),
        ("/model", "GET", GenerationMode.POSITIVE, 5),
    ],
)
def test_no_request_finds_a_fault_or_a_broken_promise(
    server: Serving, path: str, method: str, mode: GenerationMode, examples: int
) -> None:
    with server.client(**{"X-API-Key": KEY}) as client:
        document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/predict", "/events/{table}", "/push/{view}", "/health", "/ready", "/model")
    }
    operation = schemathesis.openapi.from_dict(document)[path][method]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=server.url, headers={"X-API-Key": KEY}, checks=CHECKS)

    ask()
