"""`runner doctor` on the local target: all green, and one test for each thing that can be wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_py
from typer.testing import CliRunner

from runner import cli
from runner.commands.project.checks import machine
from runner.commands.project.doctor import Finding, _secrets, diagnose
from runner.errors import RunnerError
from runner.project import dbt
from runner.settings import PostgresAddress, Settings, read_settings
from tests.conftest import free_port, postgres_env
from tests.pooler import pooler
from tests.serving_bundles import (
    OnlineStore,
    entity_key,
    redis_field,
    register,
    timestamp_proto,
    value_proto,
    write_bundle_of,
)
from tests.small_project import write_project

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

Diagnose = Callable[..., dict[str, Finding]]


@pytest.fixture(scope="module")
def root(module_database: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project, built on PostgreSQL."""
    folder = write_project(tmp_path_factory.mktemp("small"))
    os.environ.update(_address(module_database), REDIS_URL="redis://127.0.0.1:1/0")
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute("create schema raw_data")
        connection.execute(
            "create table raw_data.readings as select 1::bigint as user_id, "
            "now() as event_timestamp, 0.5::double precision as amount, ''::text as text"
        )
    dbt.build(read_settings("local", folder), [], lambda _: None)
    return folder


@pytest.fixture
def look(
    root: Path,
    module_database: PostgresAddress,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Diagnose:
    """Return the findings by check, with these variables."""

    def start(**variables: str) -> dict[str, Finding]:
        env = {**_address(module_database), "REDIS_URL": redis_url}
        env["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
        for name, value in {**env, **variables}.items():
            monkeypatch.setenv(name, value)
        return {found.check: found for found in diagnose(read_settings("local", root))}

    return start


def _address(address: PostgresAddress) -> dict[str, str]:
    return {
        **postgres_env(address),
    }


def problems(found: dict[str, Finding]) -> dict[str, tuple[str, str]]:
    # Whatever listens at the serving port of the machine that tests is not the tests' business.
    return {
        name: (finding.message, finding.hint)
        for name, finding in found.items()
        if not finding.is_ok and name != "serving port"
    }


def test_a_project_that_is_well_has_no_problems(look: Diagnose) -> None:
    found = look()
    assert problems(found) == {}
    assert found["schemas"].message == "feast_registry, feature_mart, spine_data can be written"
    assert found["indexes"].message == "as the join needs them: reading"
    assert found["Feast's registry"].message.startswith("not there yet")
    assert "not there yet" in found["MLflow"].message


def test_looking_makes_nothing(look: Diagnose, tmp_path: Path, root: Path) -> None:
    before = sorted(root.rglob("*"))
    look()
    assert list(tmp_path.iterdir()) == []
    assert sorted(root.rglob("*")) == before


def test_the_command_says_a_line_for_each_check_and_exits_with_1(
    look: Diagnose, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.chdir(root)
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "problem Redis memory: not checked: it needs Redis" in lines
    assert [line for line in lines if line.startswith("problem Redis: nothing listens at")]
    assert [line for line in lines if line.startswith("OK      PostgreSQL: ")]
    printed = json.loads(CliRunner().invoke(cli.app, ["doctor", "--json"]).stdout)
    assert len(lines) == len(printed)
    [redis] = [found for found in printed if found["check"] == "Redis"]
    assert not redis["is_ok"]
    assert redis["hint"] == "run `runner up`, or set REDIS_URL to a server that runs"


def test_a_variable_that_is_not_set_keeps_nothing_else_from_being_looked_at(
    look: Diagnose,
) -> None:
    found = look(PGHOST="")
    assert problems(found)["variables"][0] == "PGHOST not set"
    assert problems(found)["PostgreSQL"] == (
        "nowhere to look: PGHOST not set",
        "set PGHOST, then look again",
    )
    assert found["Redis"].is_ok


def test_a_postgresql_that_does_not_run_is_told_once(look: Diagnose) -> None:
    port = str(free_port())
    assert problems(look(PGPORT=port)) == {
        "PostgreSQL": (
            f"nothing listens at 127.0.0.1:{port}",
            "run `runner up`, or set PGHOST and PGPORT to a server that runs",
        ),
        **dict.fromkeys(
            ("time zone", "schemas", "indexes", "Feast's registry", "champions"),
            ("not checked: it needs PostgreSQL", ""),
        ),
    }


def test_a_refused_login_is_told_without_the_password(look: Diagnose) -> None:
    found = look(PGUSER="nobody", PGPASSWORD="s3cret-word")
    told, hint = problems(found)["PostgreSQL"]
    assert "refuses user nobody" in told
    assert "set PGUSER, PGPASSWORD" in hint
    assert "s3cret-word" not in str(found)


def test_a_password_among_the_options_of_an_address_is_a_secret(tmp_path: Path) -> None:
    url = "redis://127.0.0.1:6379/0?password=s3cret-word&db=1"
    env = {"REDIS_URL": url, "MLFLOW_TRACKING_URI": "http://u:other@127.0.0.1"}
    assert _secrets(Settings("local", tmp_path, env)) == ["s3cret-word", "other"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:Zm9vYmFyc2VjcmV0/abcd=@127.0.0.1:6379/0",
        "redis://:Zm9vYmFyc2VjcmV0[abcd@127.0.0.1:6379/0",
    ],
)
def test_a_password_that_is_not_encoded_is_told_and_not_shown(look: Diagnose, url: str) -> None:
    found = problems(look(REDIS_URL=url, OTHER_URL="http://[no-address"))
    assert found["Redis"][0].startswith("REDIS_URL is not of the form")
    assert found["Redis memory"] == ("not checked: it needs Redis", "")
    assert "Zm9vYmFyc2VjcmV0" not in str(found)


def test_a_schema_that_may_not_be_written_is_named(
    look: Diagnose, module_database: PostgresAddress
) -> None:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute("create role clerk login password 'of-a-clerk'")
    found = problems(look(PGUSER="clerk", PGPASSWORD="of-a-clerk"))
    assert found["schemas"] == (
        "user clerk may not create tables in the schema feast_registry",
        "let an administrator `grant create, usage on schema feast_registry to clerk`",
    )


def test_a_big_mart_without_an_index_is_told_with_what_to_add(
    look: Diagnose, module_database: PostgresAddress
) -> None:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute(
            "insert into feature_mart.reading select n, now(), 1 from generate_series(1, 100000) n"
        )
        connection.execute("analyze feature_mart.reading")
        told, hint = problems(look())["indexes"]
        connection.execute("truncate feature_mart.reading")
        connection.execute("analyze feature_mart.reading")
    assert "has no index on (user_id, event_timestamp)" in told
    assert "indexes: [{columns: [user_id, event_timestamp], unique: true}]" in hint
    assert problems(look()) == {}


def test_a_mart_that_is_to_follow_new_rows_without_an_index_is_told_with_what_to_add(
    look: Diagnose, root: Path
) -> None:
    manifest = read_settings("local", root).manifest_path
    text = manifest.read_text()
    content = json.loads(text)
    [mart] = [node for node in content["nodes"].values() if node["name"] == "reading"]
    mart["config"]["meta"]["compare_every"] = "12h"
    manifest.write_text(json.dumps(content))
    found = problems(look())
    manifest.write_text(text)
    missing = "(user_id, event_timestamp) and none on (event_timestamp)"
    indexes = "[{columns: [user_id, event_timestamp]}, {columns: [event_timestamp]}]"
    assert found["indexes"] == (
        f'"feature_mart"."reading" has no index on {missing}, which its compare_every needs',
        f"add to the config of its dbt model: indexes: {indexes} (models/feature_mart/reading.yml)",
    )


@pytest.fixture
def small_redis(redis_url: str) -> Iterator[redis_py.Redis]:
    """The Redis, whose memory is limited in a test and not after it."""
    with redis_py.Redis.from_url(redis_url) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_features_is_a_problem(
    look: Diagnose, small_redis: redis_py.Redis, policy: str
) -> None:
    small_redis.config_set("maxmemory", 100 << 20)
    small_redis.config_set("maxmemory-policy", policy)
    told, hint = problems(look())["Redis memory"]
    assert told.startswith(f"maxmemory-policy {policy}: with more than 100 MiB features vanish")
    assert "set maxmemory-policy noeviction" in hint


def test_a_redis_that_is_nearly_full_is_a_problem(
    look: Diagnose, small_redis: redis_py.Redis
) -> None:
    small_redis.config_set("maxmemory", int(small_redis.info("memory")["used_memory"]) + (1 << 10))
    assert problems(look())["Redis memory"][1] == "raise maxmemory"


def test_what_answers_in_the_place_of_redis_is_told(
    look: Diagnose, module_database: PostgresAddress
) -> None:
    found = problems(look(REDIS_URL=f"redis://:hid%40den@127.0.0.1:{module_database.port}/0"))
    assert "does not answer as Redis" in found["Redis"][0]
    assert "hid" not in str(found)


def test_an_mlflow_server_that_does_not_answer_is_a_problem(look: Diagnose) -> None:
    found = problems(look(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}"))
    assert set(found) == {"MLflow", "champions", "online features"}
    assert "127.0.0.1" in found["MLflow"][0]
    assert found["MLflow"][1]
    assert found["champions"] == ("not checked: it needs MLflow", "")


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A champion of the small recipe's model that takes the one feature there is, and its name."""
    monkeypatch.chdir(tmp_path)  # MLflow writes artifacts below it
    write_bundle_of(tmp_path / "bundle", "reading", "amount")
    version = register(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "bundle", "small")
    return f"small version {version}"


def test_a_champion_whose_features_are_not_online_is_a_problem(
    look: Diagnose, champion: str, redis_url: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OnlineStore(redis_url)
    row = {"_ts:reading": timestamp_proto(time.time())}
    row[redis_field("reading", "amount")] = value_proto("int64", 1)
    store.client.hset(entity_key({"user_id": 1}), mapping=row)
    assert look()["online features"].message == f"stored for {champion}"
    store.client.flushall()
    told, hint = problems(look())["online features"]
    assert told == f"{champion}: 100% of its features are missing or expired online: see reading"
    assert "runner materialize" in hint
    monkeypatch.chdir(root)
    done = CliRunner().invoke(cli.app, ["status"])
    assert done.exit_code == 0
    assert told in " ".join(done.stderr.split())


def test_a_champion_whose_feature_dbt_has_no_more_is_a_problem(
    look: Diagnose, champion: str, root: Path
) -> None:
    assert look()["champions"].message == f"intact: {champion}"
    path = root / "target" / "manifest.json"
    before = path.read_text()
    path.write_text(before.replace('"amount"', '"amounts"'))
    told, hint = problems(look())["champions"]
    path.unlink()
    assert look()["champions"].is_ok  # dbt has not compiled: nobody knows
    path.write_text(before.replace('"adapter_type": "postgres"', '"adapter_type": "bigquery"'))
    assert look()["champions"].is_ok  # nor here: it compiled for another target
    path.write_text(before)
    assert told == f"{champion} takes reading:amount, which dbt does not have"
    assert hint.startswith("bring it back and run `dbt build`")


def test_a_champion_whose_mart_is_not_in_the_warehouse_is_a_problem(
    look: Diagnose, champion: str, module_database: PostgresAddress
) -> None:
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute("alter table feature_mart.reading rename to aside")
        told, hint = problems(look())["champions"]
        connection.execute("alter table feature_mart.aside rename to reading")
    assert told.startswith(f"{champion}: feature mart reading: no table feature_mart.reading in ")
    assert hint == "run `dbt build --select +reading`"


def test_a_session_that_is_not_in_utc_is_a_problem(
    look: Diagnose, module_database: PostgresAddress
) -> None:
    name = module_database.database
    with psycopg.connect(**module_database.conninfo, autocommit=True) as connection:
        connection.execute(f"alter database {name} set timezone = 'America/New_York'")
        told, hint = problems(look())["time zone"]
        assert look(PGTZ="UTC")["time zone"].message == "UTC"
        connection.execute(f"alter database {name} reset timezone")
    assert told.startswith("TimeZone is America/New_York: dbt by itself would compute days of that")
    assert f"""`alter database "{name}" set timezone = 'UTC'`""" in hint
    told, hint = problems(look(PGTZ="Asia/Tokyo"))["time zone"]
    assert told.startswith("PGTZ=Asia/Tokyo: ")
    assert hint == "unset PGTZ, or set PGTZ=UTC"


@pytest.mark.parametrize(
    ("more", "word"), [("", "refuses"), ("ignore_startup_parameters = options", "drops")]
)
def test_a_registry_path_with_options_behind_a_pooler_is_a_problem(
    look: Diagnose,
    root: Path,
    module_database: PostgresAddress,
    tmp_path: Path,
    more: str,
    word: str,
) -> None:
    path = root / "profiles/feature_store.local.yaml"
    before = path.read_text()
    with pooler(module_database, tmp_path, more) as address:
        assert problems(look(PGPORT=str(address.port))) == {}
        path.write_text(before.replace("psycopg://", "psycopg:///?options=-csearch_path%3Dfeast"))
        told, _ = problems(look(PGPORT=str(address.port)))["Feast's registry"]
        path.write_text(before)
    assert f"is a pooler that {word} start-up options" in told


def test_a_target_that_a_profile_lacks_is_told(look: Diagnose, root: Path) -> None:
    path = root / "profiles.yml"
    before = path.read_text()
    path.write_text(before.replace("    local:", "    elsewhere:"))
    told, hint = problems(look())["profiles"]
    path.write_text(before)
    assert told.endswith("profile shop has no output local; it has cloud, elsewhere")
    assert "profiles/profiles.yml" in hint


def test_a_package_of_another_version_is_told(
    look: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version
    versions = {"feast": "0.1", "redis": "99"}
    monkeypatch.setattr(
        "runner.commands.project.checks.machine.version",
        lambda name: versions.get(name) or real(name),
    )
    told, hint = problems(look())["packages"]
    assert told == "feast 0.1, not <0.68,>=0.67; redis 99, not <9,>=5"
    assert hint == "run `make install`"


def test_another_program_at_the_port_of_serving_is_told(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(RunnerError, match=f"another program listens at .*:{taken}$") as refused:
            machine.port(Settings("local", root, {"SERVING_PORT": str(taken)}))
    assert f"runner serve RECIPE --port {taken + 1}" in refused.value.hint
    free = str(free_port())
    told = machine.port(Settings("local", root, {"SERVING_PORT": free}))
    assert told == f"{free} is free for `runner serve`"


def test_a_disk_that_cannot_be_written_is_told(
    look: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("runner.commands.project.checks.machine.TemporaryFile", full)
    told, hint = problems(look())["disk"]
    assert told.endswith("cannot be written: Read-only file system")
    assert hint.startswith("give yourself the folder")


def test_in_the_image_the_projects_folder_itself_need_not_be_writable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("data", "mlruns", "target", "logs"):
        (tmp_path / name).mkdir()
    real = machine.TemporaryFile

    def refuse_the_root(dir: Path) -> Any:  # noqa: A002  (as in tempfile)
        if dir == tmp_path:
            raise OSError(30, "Read-only file system")
        return real(dir=dir)

    monkeypatch.setattr(machine, "TemporaryFile", refuse_the_root)
    assert "can be written" in machine.disk(Settings("cloud", tmp_path, {}))
    (tmp_path / "logs").rmdir()
    with pytest.raises(RunnerError, match="cannot be written"):
        machine.disk(Settings("cloud", tmp_path, {}))


def test_help_says_that_it_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "doctor", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "changes nothing" in done.stdout


def test_what_the_environment_has_otherwise_than_the_profile_is_named(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/local.env").write_text("PGHOST=here\nPGDATABASE=mine\nPGUSER=me\n")
    names = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "REDIS_URL")
    env = dict.fromkeys(names, "x") | {"PGHOST": "here", "MLFLOW_TRACKING_URI": "sqlite:///m.db"}
    told = machine.variables(Settings("local", tmp_path, env))
    assert told.endswith("; the environment overrides PGDATABASE, PGUSER")
