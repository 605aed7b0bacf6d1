"""The compose file and the image agree with profiles/local.env and with the repository."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from dotenv import dotenv_values

from contract.serving_settings import ServingSettings
from examples.shop.__main__ import generate
from runner.cli import app
from runner.project.freshness import GENERATED

ROOT = Path(__file__).parents[2]
LOCAL = dotenv_values(ROOT / "profiles" / "local.env", interpolate=False)
COMPOSE_FILE = (ROOT / "docker-compose.local.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE)
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in DOCKERFILE if line[:1] not in {"", "#"}]
# Every command in the comments, continued lines joined.
SHOWN = re.findall(r"^#   (\S.*)", COMPOSE_FILE.replace("\\\n#", ""), re.MULTILINE)
EXECUTED = [line.split(" exec pipeline ")[1] for line in SHOWN if " exec pipeline " in line]


def resolved(value: str, env: dict[str, str] | None = None) -> str:
    """Interpolate `${NAME:-default}` as compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: (env or {}).get(m[1]) or m[2], value)


def test_the_three_containers_are_those_of_the_readme() -> None:
    images = {name: service.get("image") for name, service in SERVICES.items()}
    assert images == {
        "postgres": "postgres:15-alpine",
        "redis": "redis:7-alpine",
        "pipeline": "recipe-runner:local",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_a_health_check_that_runs(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= check.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


def test_the_pipeline_waits_for_healthy_servers() -> None:
    assert SERVICES["pipeline"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
    }


def test_servers_answer_where_local_env_says() -> None:
    (postgres,), (redis,) = SERVICES["postgres"]["ports"], SERVICES["redis"]["ports"]
    assert resolved(postgres) == f"{LOCAL['PGHOST']}:{LOCAL['PGPORT']}:5432"
    assert LOCAL["REDIS_URL"] == f"redis://{resolved(redis).removesuffix(':6379')}/0"


def test_the_postgres_account_is_that_of_local_env() -> None:
    made = SERVICES["postgres"]["environment"]
    names = {
        "POSTGRES_USER": "PGUSER",
        "POSTGRES_PASSWORD": "PGPASSWORD",
        "POSTGRES_DB": "PGDATABASE",
    }
    for inside, variable in names.items():
        assert resolved(made[inside]) == LOCAL[variable]
        assert resolved(made[inside], {variable: "other"}) == "other"


def test_the_pipeline_gets_every_variable_and_finds_the_servers_by_name() -> None:
    env = {name: resolved(value) for name, value in SERVICES["pipeline"]["environment"].items()}
    assert env == {
        **LOCAL,
        "APP_ENV": "local",
        "PGHOST": "postgres",
        "PGPORT": "5432",
        "REDIS_URL": "redis://redis:6379/0",
        "SERVING_API_KEYS": "",
    }


def test_the_comments_load_train_materialize_and_serve_in_this_order() -> None:
    names = [line.split()[1] if line.startswith("runner ") else line for line in EXECUTED]
    assert names == ["python -m examples.shop", "train", "materialize", "serve"]
    [up] = [line for line in SHOWN if re.search(r" up( |$)", line)]
    assert SHOWN.index(up) < min(SHOWN.index(line) for line in SHOWN if " exec " in line)


@pytest.mark.parametrize("line", EXECUTED)
def test_every_command_in_the_comments_is_one_and_in_the_image(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "python":
        assert arguments.pop(0) == "-m"
        assert importlib.util.find_spec(arguments[0])
        assert not ignored(arguments[0].partition(".")[0])
        loader = typer.Typer()
        loader.command()(generate)
        typer.main.get_command(loader).make_context(arguments[0], arguments[1:])
        return
    assert program == "runner"
    command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    command.make_context(arguments[0], arguments[1:])  # reads them, and runs nothing
    recipes = [argument for argument in arguments if argument.endswith(".yaml")]
    assert all((ROOT / recipe).is_file() for recipe in recipes)


def test_the_server_in_the_comments_may_listen_where_they_say_and_is_asked_there() -> None:
    [serve] = [line for line in EXECUTED if line.startswith("runner serve ")]
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    said = command.make_context("serve", shlex.split(serve)[2:]).params
    [made] = [line for line in SHOWN if line.startswith("export SERVING_API_KEYS=")]
    key = subprocess.run(
        ["bash", "-c", f"{made}; printf %s $SERVING_API_KEYS"], capture_output=True, check=True
    ).stdout.decode()
    passed = SERVICES["pipeline"]["environment"]
    env = {name: resolved(value, {"SERVING_API_KEYS": key}) for name, value in passed.items()}
    env |= {"SERVING_MODEL": "models:/m@champion", "SERVING_HOST": said["host"]}
    settings = ServingSettings.from_env(env)  # refuses an address beyond loopback without a key
    assert settings.api_keys == (key,)
    [port] = SERVICES["pipeline"]["ports"]
    address, _, inside = resolved(port).rpartition(":")
    assert (settings.host, inside) == ("0.0.0.0", str(settings.port))
    assert f"curl {address}/predict" in SHOWN[-1]
    assert 'X-API-Key: $SERVING_API_KEYS"' in SHOWN[-1]


def test_the_image_tells_a_training_the_commit_that_it_was_built_from() -> None:
    arguments = SERVICES["pipeline"]["build"]["args"]
    assert resolved(arguments["GIT_COMMIT"], {"GIT_COMMIT": "abc"}) == "abc"
    assert "export GIT_COMMIT=$(git rev-parse HEAD)" in SHOWN
    assert INSTRUCTIONS.index(["ARG", "GIT_COMMIT"]) < INSTRUCTIONS.index(
        ["ENV", "GIT_COMMIT=$GIT_COMMIT"]
    )
    built = re.search(r"^#   docker build (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert built
    assert "--build-arg GIT_COMMIT=$(git rev-parse HEAD)" in built[1]


def test_runner_can_write_its_exposures_in_the_image_and_over_the_read_only_folder() -> None:
    project = yaml.safe_load((ROOT / "dbt_project.yml").read_text())
    folder = f"{project['model-paths'][0]}/{GENERATED}"
    assert "./dbt_project:/app/dbt_project:ro" in SERVICES["pipeline"]["volumes"]
    user = re.search(r"useradd .*--uid (\d+) runner", "\n".join(DOCKERFILE))
    assert user
    assert SERVICES["pipeline"]["tmpfs"] == [f"/app/{folder}:uid={user[1]},gid={user[1]}"]
    [made] = [value for name, value in INSTRUCTIONS if name == "RUN" and "mkdir -p" in value]
    assert folder in made.partition("&&")[0]
    assert folder in made.partition("&& chown -R runner:runner ")[2]
    # Docker cannot make the folder there: it comes with every checkout.
    assert (ROOT / folder / ".gitignore").is_file()


def test_server_data_live_under_data() -> None:
    for name in ("postgres", "redis"):
        (volume,) = SERVICES[name]["volumes"]
        assert volume.startswith(f"./data/{name}:")


def test_every_mounted_and_copied_path_exists() -> None:
    mounted = [volume.split(":")[0] for volume in SERVICES["pipeline"]["volumes"]]
    paths = [path for path in mounted if path.startswith("./")]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert set(mounted) - set(paths) <= COMPOSE["volumes"].keys()


def test_the_image_runs_runner_as_a_user_without_rights() -> None:
    said = dict(INSTRUCTIONS)
    assert said["ENTRYPOINT"] == '["runner"]'
    assert said["USER"] == "runner"
    order = [name for name, _ in INSTRUCTIONS]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")


def test_the_image_installs_only_what_the_lock_pins() -> None:
    installs = [value for name, value in INSTRUCTIONS if name == "RUN" and "pip install" in value]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "-r requirements.lock" in installs[0]


@pytest.mark.parametrize("path", [".git", ".venv", "data", "mlruns", "target", ".env", "tests"])
def test_state_and_secrets_stay_out_of_the_image(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize(
    "path",
    [
        "runner",
        "serving",
        "dbt_project",
        "feature_repo",
        "profiles",
        "recipes",
        "requirements.lock",
    ],
)
def test_what_runs_goes_into_the_image(path: str) -> None:
    assert not ignored(path)


def ignored(path: str) -> bool:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line and not line.startswith("#")]
    return any(fnmatch(path, pattern) for pattern in patterns)
