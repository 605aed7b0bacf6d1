"""docs/cloud.md cannot be run here, but what it names exists, and its blocks fit one another."""

import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import typer.main
import yaml

from contract.model_registry import FolderSource
from contract.serving_settings import Limits, ServingSettings
from contract.view_layout import EXPIRED, MISSING, STATUSES
from examples.shop.__main__ import generate
from runner.cli import app
from runner.commands.checks.bigquery import DATASETS
from runner.recipes.recipe import load_recipe
from serving.champion_watch import ChampionWatch
from serving.http.api_keys import PROBES
from serving.http.guard import ROUTES
from serving.metrics import Metrics
from tests.serving_bundles import write_linear_bundle

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cloud.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
# Continued lines joined, so that a command is one line.
SCRIPT = "\n".join(BLOCKS).replace("\\\n", " ")
DEPLOYED = {
    name: next(
        line for line in SCRIPT.splitlines() if line.startswith(f"gcloud run deploy {name} ")
    )
    for name in ("api", "mlflow")
}


def test_the_blocks_are_bash():
    done = subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True, check=False)
    assert done.stderr == ""
    assert len(BLOCKS) == 7


RECORDING = """
set -euo pipefail
record() { printf '%s\\n' "$*"; }
gcloud() {
    case "$1 $2 ${3:-}" in
        "projects describe "*) echo 12345 ;;
        "redis instances create") record gcloud "$@" ;;
        "redis instances "*) echo "some-$3" ;;
        "secrets create "*) cat > /dev/null && record gcloud "$@" ;;
        *) record gcloud "$@" ;;
    esac
}
bq() { record bq "$@"; }
curl() { record curl "$@"; }
env() { record env "$@"; }
openssl() { echo 0123456789abcdef; }
git() { echo 0123456789abcdef; }
CHANNEL=projects/p/notificationChannels/1
"""


def test_the_blocks_run_through_where_commands_only_say_what_they_were_given():
    done = subprocess.run(
        ["bash"], input=RECORDING + SCRIPT, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len([line for line in said if line.startswith("gcloud run jobs create ")]) == 3
    assert len([line for line in said if line.startswith("gcloud run deploy ")]) == 2
    assert "$" not in done.stdout
    # A variable that is not set would leave a hole.
    assert not [line for line in said if re.search(r"=(\s|,|$)|//[./]", line)]


# Variables


def _sources(*places):
    """Return all text of our code and of the packages that read variables of their own."""
    files = [file for place in places for file in ([place] if place.is_file() else _text(place))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _text(folder):
    kinds = {".py", ".env", ".yml", ".yaml", ".ini", ""}
    return [file for file in folder.rglob("*") if file.is_file() and file.suffix in kinds]


def _package(name):
    return Path(importlib.util.find_spec(name).origin).parent


def _assigned():
    """Return the variables that the page has a container run with, and where it says them."""
    lists = re.findall(r"--set-(?:env-vars|secrets)=(\S+)|export (?:CLOUD|SECRETS)=(\S+)", SCRIPT)
    items = [item for found in lists for text in found for item in text.split(",") if "=" in item]
    return {item.partition("=")[0] for item in items if item[0].isupper()}


def test_every_variable_is_read_by_our_code_or_by_mlflow():
    ours = _sources(
        *(
            ROOT / name
            for name in ["contract", "runner", "serving", "profiles", "dbt_project", "Dockerfile"]
        )
    )
    mlflow = _package("mlflow")
    theirs = _sources(
        mlflow / "environment_variables.py",
        mlflow / "cli" / "__init__.py",
        mlflow / "utils" / "cli_args.py",
        mlflow / "server" / "auth",
    )
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)[`=]", PAGE)) - {"INFORMATION_SCHEMA"}
    variables = _assigned() | named
    assert {"REDIS_URL", "SERVING_API_KEYS", "MLFLOW_BACKEND_STORE_URI"} <= _assigned()
    known = {name for name in variables if re.search(rf"\b{name}\b", ours + theirs)}
    assert variables - known == set()


def test_the_api_starts_with_the_variables_that_it_is_deployed_with():
    found = re.findall(r"--set-env-vars=(\S+)", DEPLOYED["api"])[0]
    env = dict(item.split("=", 1) for item in found.split(","))
    secrets = {"REDIS_URL": "rediss://:p@10.0.0.1:6378/0", "SERVING_API_KEYS": "k" * 48}
    settings = ServingSettings.from_env({**env, **secrets})
    assert f"--port={settings.port}" in DEPLOYED["api"]
    assert settings.host == "0.0.0.0"
    model = load_recipe(ROOT / "recipes" / "rf.yaml").registered_model_name
    assert settings.model_uri == f"models:/{model}@champion"
    concurrency = re.search(r"--concurrency=(\d+)", DEPLOYED["api"])
    assert concurrency
    assert int(concurrency[1]) < Limits.concurrency


# Commands


def _commands():
    """Return every command line of ours on the page, in blocks and in the text."""
    shown = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in shown for line in block.splitlines()]
    lines += re.findall(r"`((?:runner|dbt|python -m) [^`…]+)`", PAGE)
    inside = re.findall(r"'(?:-c,)?((?:runner|dbt) [^']*)'", SCRIPT)
    lines += [part for line in inside for part in line.split(" && ")]
    arguments = re.findall(r"^job \w+ --args=(?!-)(\S+)", SCRIPT, re.MULTILINE)
    lines += ["runner " + line.replace(",", " ") for line in arguments]
    return sorted({line.strip() for line in lines})


RUNNER = [line for line in _commands() if line.startswith("runner ")]


@pytest.mark.parametrize("line", RUNNER)
def test_every_runner_command_is_one(line):
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    if arguments:  # else the page may just call it by its name
        command.make_context(name, list(arguments))  # reads them, and runs nothing
    for argument in arguments:
        if argument.startswith("recipes/"):
            assert (ROOT / argument).is_file()


def test_the_page_has_the_commands_of_a_target():
    names = {line.split()[1] for line in RUNNER}
    assert names >= {"doctor", "plan", "train", "materialize", "audit", "predict"}
    assert {line for line in _commands() if line.startswith("dbt ")} >= {"dbt build --target cloud"}


def test_the_demo_loads_with_the_options_shown():
    shown = re.search(r"python -m examples\.shop(.*)", SCRIPT)
    command = typer.Typer()
    command.command()(generate)
    arguments = shlex.split(shown[1], comments=True)
    typer.main.get_command(command).make_context("examples.shop", arguments)


def test_the_mlflow_server_starts_with_the_options_shown():
    options = re.search(r"--args=server,(\S+)", DEPLOYED["mlflow"])[1].split(",")
    mlflow = _package("mlflow")
    source = _sources(mlflow / "cli" / "__init__.py", mlflow / "utils" / "cli_args.py")
    named = [option for option in options if option.startswith("--")]
    assert named
    assert [option for option in named if f'"{option}"' not in source] == []


# What the blocks make and use


def test_the_image_is_built_with_its_commit_and_under_its_name():
    submit = re.search(r"^gcloud builds submit (.*)", SCRIPT, re.MULTILINE)[1]
    build = (ROOT / re.search(r"--config=(\S+)", submit)[1]).read_text()
    given = re.search(r"--substitutions=(\S+=\$\(git rev-parse HEAD\))", submit)[1]
    values = dict(item.split("=") for item in given.split(","))
    assert values == {"_IMAGE": "$IMAGE", "_GIT_COMMIT": "$(git rev-parse HEAD)"}
    # Cloud Build refuses substitutions that the file does not use, and leaves none in it.
    assert set(re.findall(r"\$(_\w+)", build)) == values.keys()
    [step] = yaml.safe_load(build)["steps"]
    assert step["args"] == [
        *("build", "--build-arg", "GIT_COMMIT=$_GIT_COMMIT", "--tag", "$_IMAGE", ".")
    ]
    assert yaml.safe_load(build)["images"] == ["$_IMAGE"]


def test_the_datasets_are_those_that_doctor_looks_for():
    made = re.search(r"for d in (raw_events [^;]*);", SCRIPT)[1].split()
    assert tuple(made) == DATASETS


def test_every_secret_that_is_read_was_made_and_may_be_read():
    made = set(re.findall(r"\bsecret ([a-z-]+)", SCRIPT))
    allowed = {"mlflow": set(), "runner": set(), "api": set()}
    for names, body in re.findall(r"for s in ([^;]+); do (.*?); done", SCRIPT):
        for account in re.findall(r"reads (\w+) \$s", body):
            allowed[account] |= set(names.split())
    assert set().union(*allowed.values()) == made
    shared = set(re.findall(r"=([a-z-]+):latest", re.search(r"export SECRETS=(\S+)", SCRIPT)[1]))
    assert shared <= allowed["runner"]
    for name, line in DEPLOYED.items():
        used = set(re.findall(r"=([a-z-]+):latest", line))
        used |= shared if "$SECRETS" in line else set()
        assert used <= allowed[name], name


def test_files_of_secrets_are_mounted_where_they_are_looked_for():
    mounted = set(re.findall(r"[,=](/[\w./-]+)=[a-z-]+:latest", SCRIPT))
    looked_for = set(re.findall(r"ssl_ca_certs=(/[\w./-]+)", SCRIPT))
    looked_for |= set(re.findall(r"MLFLOW_AUTH_CONFIG_PATH=([^,\s]+)", SCRIPT))
    looked_for |= set(re.findall(r"--config=(/\S+)", SCRIPT))
    looked_for |= {_collector()["authorization"]["credentials_file"]}
    assert mounted == looked_for


def test_every_service_account_that_is_used_was_made():
    made = set(re.search(r"for a in ([^;]+); do gcloud iam", SCRIPT)[1].split())
    used = set(re.findall(r"\bml-(\w+)@", SCRIPT)) | set(re.findall(r"\baccount (\w+)\)", SCRIPT))
    assert used == made


# Watching


def _collector():
    """Return what the collector reads its metrics from."""
    config = yaml.safe_load(
        re.search(r"secret collector <<'END'\n(.*?)\nEND", SCRIPT, re.DOTALL)[1]
    )
    pipeline = config["service"]["pipelines"]["metrics"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) <= set(config[part])
    [scraped] = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    return scraped


def test_the_collector_reads_the_metrics_of_the_api():
    scraped = _collector()
    assert scraped["metrics_path"] in ROUTES
    assert scraped["static_configs"] == [{"targets": [f"localhost:{ServingSettings.port}"]}]


def test_probes_and_uptime_check_ask_paths_that_are_open():
    asked = re.findall(r"(?:httpGet\.path|--path)=([^,\s]+)", SCRIPT)
    assert set(asked) == PROBES
    assert set(re.findall(r"https://\$API(/\w+)", SCRIPT)) <= ROUTES
    assert set(re.findall(r"httpGet\.port=(\d+)", SCRIPT)) == {str(ServingSettings.port)}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """The names of every sample of the API with their labels and the values of these."""
    folder = tmp_path_factory.mktemp("bundle")
    write_linear_bundle(folder)
    metrics = Metrics()
    ChampionWatch(FolderSource(folder), metrics, 0).refresh()
    metrics.request("/predict", 200, 0.1)
    metrics.row_errors["invalid_entity_row"] += 1
    found = {}
    for line in metrics.exposition().decode().splitlines():
        if not line.startswith("#"):
            name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
            pairs = re.findall(r'(\w+)="([^"]*)"', labels or "")
            for label, value in pairs or [("", "")]:
                found.setdefault(name, {}).setdefault(label, set()).add(value)
    return found


ALERTS = re.findall(r'^alert \'([^\']+)\' "([^"]+)" (\d+s)$', SCRIPT, re.MULTILINE)


@pytest.mark.parametrize(("name", "query", "duration"), ALERTS, ids=[alert[0] for alert in ALERTS])
def test_every_alert_asks_for_metrics_and_labels_that_the_api_has(exposed, name, query, duration):
    metrics = re.findall(r"(serving_\w+)(?:\{([^}]*)\})?", query)
    assert metrics
    for metric, selected in metrics:
        assert metric in exposed
        for label, value in re.findall(r"(\w+)(?:!?=~?)'([^']*)'", selected):
            assert label in exposed[metric], (metric, label)
            assert label == "status" or value in exposed[metric][label]
            if metric == "serving_feature_values_total" and label == "status":
                assert set(value.split("|")) <= set(STATUSES)
    for labels in re.findall(r"by \(([^)]*)\)", query):
        assert set(re.split(r",\s*", labels)) <= set(exposed[metrics[0][0]])
    script = re.search(r"^alert\(\).*?^}", SCRIPT, re.DOTALL | re.MULTILINE)[0]
    printing = 'gcloud() { printf %s "${4#--policy=}"; }\n' + script
    done = subprocess.run(
        ["bash", "-c", f'{printing}\nalert "$@"', "bash", name, query, duration],
        env={"CHANNEL": "projects/p/notificationChannels/1"},
        capture_output=True,
        text=True,
        check=True,
    )
    [condition] = json.loads(done.stdout)["conditions"]
    assert condition["conditionPrometheusQueryLanguage"]["query"] == query


def test_there_are_alerts_for_errors_missing_and_old_features():
    asked = " ".join(query for _, query, _ in ALERTS)
    assert "status=~'5..'" in asked
    assert f"status=~'{MISSING}|{EXPIRED}'" in asked
    assert "serving_feature_age_seconds_bucket" in asked
    assert len(ALERTS) == SCRIPT.count("\nalert '")
