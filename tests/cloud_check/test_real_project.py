"""`make cloud-check`: the servers of a real Google Cloud project, as its variables name them.

Reads only. Run it where the servers can be reached, with the variables of profiles/cloud.env set.
"""

from __future__ import annotations

import pytest

from runner.features.registry_bucket import require_bucket
from runner.redis_login import login
from runner.settings import Settings, load_settings
from runner.tracking_server import require_tracking_server


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    if not request.config.getoption("--cloud-check"):
        pytest.skip("needs a Google Cloud project: run `make cloud-check` with one")
    return load_settings("cloud")


@pytest.mark.timeout(60)
def test_redis_lets_us_in_with_tls_and_a_password(settings: Settings) -> None:
    assert settings.redis.url.startswith("rediss://")
    assert settings.redis.password
    assert login(settings.redis)


@pytest.mark.timeout(60)
def test_the_bucket_of_feasts_registry_can_be_read(settings: Settings) -> None:
    require_bucket(settings.env["FEAST_REGISTRY"])


@pytest.mark.timeout(60)
def test_the_mlflow_server_lets_us_in(settings: Settings) -> None:
    assert settings.mlflow_tracking_uri.startswith("https://")
    require_tracking_server(settings)
