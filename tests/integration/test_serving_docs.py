"""`/docs` in a real browser, which can reach nothing but this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runner.settings import RedisAddress
from tests.serving_bundles import OnlineStore, write_linear_bundle
from tests.serving_process import serving

pytestmark = pytest.mark.servers

_CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--window-size=1280,1800", "--virtual-time-budget=8000"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_docs_show_the_prediction_api_in_a_browser_without_internet(
    tmp_path: Path, redis_server: RedisAddress
) -> None:
    assert _CHROMIUM is not None
    OnlineStore(redis_server.url).write_user(1, "toys")
    write_linear_bundle(tmp_path / "bundle")
    picture = tmp_path / "docs.png"
    with serving(tmp_path / "bundle", redis_server.url) as server:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        url = f"{server.url}/docs"
        page = _chromium(profile, "--dump-dom", url)
        _chromium(profile, f"--screenshot={picture}", url)
    assert "Predict is_purchase_7d" in page
    assert "/predict" in page
    assert picture.stat().st_size > 20_000  # an empty page has 8,000


def _chromium(*arguments: str) -> str:
    done = subprocess.run(
        [str(_CHROMIUM), *_FLAGS, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
