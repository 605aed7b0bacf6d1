"""docs/cloud.md cannot be run here, but what it names exists."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import typer.main
import yaml

from examples.shop.__main__ import generate

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cloud.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
# Continued lines joined, so that a command is one line.
SCRIPT = "\n".join(BLOCKS).replace("\\\n", " ")


def test_the_blocks_are_bash():
    done = subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True, check=False)
    assert done.stderr == ""
    assert len(BLOCKS) == 7


# As runner/commands/cloud/release.py runs them; tests/e2e/test_release.py looks at each word.
RELEASE = (
    "gcloud run jobs execute smoke-rf --wait --region=us-central1 --project=my-project",
    "gcloud logging read filter --limit=1 --format=value --project=my-project",
)


def gcloud_lines():
    """Return the words of each `gcloud` command of a release or on the page, in any place."""
    lines = [line.partition(" #")[0] for line in SCRIPT.splitlines()]
    lines += re.findall(r"`(gcloud [^`]+)`", PAGE)
    found = [re.search(r"\bgcloud [^)|]*", line) for line in lines]
    return [shlex.split(line) for line in (*RELEASE, *(match[0] for match in found if match))]


@pytest.fixture(scope="module")
def commands():
    """Every command of the installed Google Cloud SDK with its options."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        pytest.skip("gcloud is not installed: its commands are not checked")
    places = [Path(gcloud).resolve().parents[1], Path("/usr/lib/google-cloud-sdk")]
    files = [place / "data" / "cli" / "gcloud_completions.py" for place in places]
    tree = next((file for file in files if file.is_file()), None)
    if tree is None:
        pytest.skip("this gcloud has no tree of commands: its commands are not checked")
    # 90,000 lines of a literal: in a process of its own, which gives the memory back.
    script = (
        "import json, runpy, sys; "
        "print(json.dumps(runpy.run_path(sys.argv[1])['STATIC_COMPLETION_CLI_TREE']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tree)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_gcloud_has_every_command_and_option(commands):
    lines = gcloud_lines()
    assert len(lines) >= 11
    for _, *words in lines:
        known = commands
        options = dict(known["flags"])
        while words and words[0] in known["commands"]:
            known = known["commands"][words.pop(0)]
            options |= known["flags"]
        assert not known["commands"], words
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options.keys(), words


def test_the_demo_loads_with_the_options_shown():
    shown = re.search(r"python -m examples\.shop(.*)", SCRIPT)
    command = typer.Typer()
    command.command()(generate)
    arguments = shlex.split(shown[1], comments=True)
    typer.main.get_command(command).make_context("examples.shop", arguments)


def test_the_modules_are_all_there_and_all_told():
    table = re.search(r"\| Module in .*?\n\n", PAGE, re.DOTALL)[0]
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]*", table, re.MULTILINE))))
    modules = {path.stem for path in (ROOT / "deploy" / "cloud").glob("*.py")}
    assert modules - {"__init__", "settings", "settings_part", "containers", "deployment"} <= told


def test_settings_and_files_that_the_page_names_exist():
    settings = (ROOT / "deploy" / "Pulumi.prod.yaml").read_text()
    for key in ("serve", "callers", "cpu_always", "releases", "old_versions_days", "kind"):
        assert f"`{key}" in PAGE
        assert f"{key}:" in settings
    for name in re.findall(r"`((?:deploy|monitoring|tests|runner)/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name
    rules = yaml.safe_load((ROOT / "monitoring" / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in rules for rule in group["rules"]}
    assert {"ServiceErrors", "JobFailed"} <= alerts
