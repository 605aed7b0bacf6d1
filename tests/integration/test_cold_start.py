"""An instance answers soon after its start: most of the time goes into importing packages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.cold_start import copy_of_code, floor_cpu, start
from tests.serving_bundles import OnlineStore, write_linear_bundle

pytestmark = pytest.mark.servers


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_the_first_answer_takes_little_more_cpu_than_importing_the_packages(
    tmp_path: Path, redis_url: str
) -> None:
    write_linear_bundle(tmp_path / "bundle")
    OnlineStore(redis_url).write_user(1, "toys")
    code = copy_of_code(tmp_path / "code", compiled=True)
    # In turns, so that both meet the same machine.
    rounds = [
        (start(code, tmp_path / "bundle", redis_url, cold=False)[1], floor_cpu(code))
        for _ in range(3)
    ]
    answered, floor = (min(times) for times in zip(*rounds, strict=True))
    assert answered < 2 * floor, rounds
