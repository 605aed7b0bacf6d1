"""Every path, command and setting in docs/design-map.md exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from runner.cli import app

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "design-map.md").read_text().splitlines()
    if line.startswith("| ") and line != "| The design | Here |"
]
NAMES = sorted({name for _, here in ROWS for name in re.findall(r"`([^`]+)`", here)})
SETTINGS = [name for name in NAMES if re.fullmatch(r"[\w:]+: \S+", name)]
COMMANDS = [name for name in NAMES if name.startswith("runner ")]
PATHS = [name for name in NAMES if re.fullmatch(r"[\w.-]+/[\w./-]*|[\w.-]+\.\w+|Dockerfile", name)]
NOT_OURS = {"seeds/"}  # of a new project


@pytest.mark.parametrize("name", PATHS)
def test_every_path_exists(name):
    folder = ROOT / "runner" / "skeleton" if name in NOT_OURS else ROOT
    assert (folder / name).exists()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_exists(line):
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    if arguments:
        command.make_context(name, list(arguments))


@pytest.mark.parametrize("here", [here for _, here in ROWS if re.search(r"`[\w:]+: \S+`", here)])
def test_every_setting_has_that_value_in_the_file_beside_it(here):
    files = re.findall(r"`((?:deploy|profiles)/[\w./]+\.yaml)`", here) or [
        "deploy/Pulumi.prod.yaml"
    ]
    for file in files:
        text = (ROOT / file).read_text()
        for setting in re.findall(r"`([\w:]+: \S+)`", here):
            if setting != "kind: external":  # the other choice
                assert re.search(rf"\b{re.escape(setting)}\b", text), (file, setting)


def test_the_sizes_are_those_of_their_part():
    config = yaml.safe_load((ROOT / "deploy" / "Pulumi.prod.yaml").read_text())["config"]
    api, tracking = config["shop:api"], config["shop:tracking"]
    sizes = ("cpu", "memory_gib", "concurrency", "min_instances")
    assert [api[size] for size in sizes] == [1, 2, 100, 0]
    assert (tracking["cpu"], tracking["memory_gib"]) == (2, 4)


def test_everything_in_quotes_is_looked_at():
    looked_at = {*SETTINGS, *COMMANDS, *PATHS}
    words = {"staging", "runner/", "/ready", "make demo", "feast materialize"}
    words |= {"RedisSlow", "raw_events", "MLFLOW_TRACKING_URI"}
    assert [name for name in NAMES if name not in looked_at | words] == []
    assert (len(PATHS), len(COMMANDS), len(SETTINGS)) >= (30, 6, 8)
