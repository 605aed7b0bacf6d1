"""`/docs` in a real browser, which can reach nothing but this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.redis_address import RedisAddress
from tests.browser import CHROMIUM, page
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import serving

pytestmark = pytest.mark.servers


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_docs_show_the_prediction_api_in_a_browser_without_internet(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    OnlineStore(redis_server.url).write_user(1, "toys")
    write_linear_bundle(tmp_path / "bundle")
    picture = tmp_path / "docs.png"
    with serving(tmp_path / "bundle", redis_server.url) as server, page(tmp_path) as docs:
        docs.open(f"{server.url}/docs")
        docs.wait_for("Predict is_purchase_7d")
        docs.wait_for("/predict")
        docs.picture(picture)
    assert picture.stat().st_size > 20_000  # an empty page has 8,000
