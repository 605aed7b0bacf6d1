"""A wrong setting is refused before anything runs, by file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.stacks import ROOT, run_program, write_stack

SHIPPED = (ROOT / "deploy" / "Pulumi.prod.yaml").read_text()
SERVING = yaml.safe_load(SHIPPED)["config"]["shop:serving"]


def refusal(folder: Path, text: str) -> str:
    """Return what the program says of these settings."""
    done = run_program(write_stack(folder, {}, text))
    assert done.returncode == 1, done.stderr
    return done.stderr.strip()


# What is wrong in the shipped file, and what is said of it. One run tells all of it: each costs
# seconds.
WRONG = [
    (
        "min_instances: 0\n    max",
        "min_instance: 0\n    max",
        "shop:api.min_instance: no such key; did you mean min_instances?",
    ),
    (
        "gcp:region: us-central1",
        "gcp:region: us-centrall",
        "gcp:region: no region: us-centrall; did you mean us-central1",
    ),
    ("memory_gib: 4", "memory_gib: 4GB", "shop:tracking.memory_gib: input should be a valid int"),
    ("size_gb: 1", "size_gb: 0", "shop:online_store.size_gb: input should be greater than or"),
    (
        '"0 3 * * 1"',
        '"0 25 * * 1"',
        "shop:schedules.train: '0 25 * * 1': '25' does not fit the field hour",
    ),
    ("log_share: 1.0", "log_share: 2", "shop:serving.log_share: input should be less than or"),
    ("    data_days: 90\n", "", "shop:retention.data_days: missing"),
    ("serve: false", "serve: 'no'", "shop:serve: input should be a valid boolean"),
    ("you@example.com", "nobody", "shop:alert_email: string should match"),
    ("callers: []", "callers: [allUsers]", "shop:callers.0: string should match"),
]


def test_every_wrong_setting_is_told_by_file_line_and_key(tmp_path: Path) -> None:
    text = SHIPPED
    for right, wrong, _ in WRONG:
        assert right in text
        text = text.replace(right, wrong, 1)
    told = refusal(tmp_path, text).splitlines()
    for right, wrong, expected in WRONG:
        [line] = [line for line in told if expected in line]
        file, number, _ = line.split(":", 2)
        assert file == "Pulumi.prod.yaml"
        if wrong:
            key = expected.partition(":")[2].partition(":")[0].rpartition(".")[2]
            named = text.splitlines()[int(number) - 1]
            assert key in named or "callers" in named, (right, named)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"location": "EU"}, "location 'EU' does not hold region us-central1"),
        (
            {"serving": {**SERVING, "shadow": "challenger", "log_share": 0}},
            "shop:serving: shadow needs the serving log",
        ),
        ({"releases": {"rg": {"stable": "a", "share": 1}}}, "releases.rg: not one of the recipes"),
    ],
)
def test_settings_that_do_not_fit_one_another_are_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    done = run_program(write_stack(tmp_path, changes))
    assert done.returncode == 1
    assert expected in done.stderr


def test_the_settings_of_a_new_project_are_the_shops(tmp_path: Path) -> None:
    skeleton = (ROOT / "runner" / "skeleton" / "deploy" / "Pulumi.prod.yaml").read_text()
    as_shop = skeleton.replace("PROJECT_NAME", "shop").replace("reorder.yaml", "rf.yaml")
    assert as_shop == SHIPPED
