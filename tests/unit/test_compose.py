"""The compose file and the image agree with profiles/local.env and with the repository."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

ROOT = Path(__file__).parents[2]
LOCAL = dotenv_values(ROOT / "profiles" / "local.env", interpolate=False)
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.local.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in DOCKERFILE if line[:1] not in {"", "#"}]


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
    }


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
