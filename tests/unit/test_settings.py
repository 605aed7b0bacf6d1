"""Where everything is: targets, variables and folders."""

import os
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.settings import Settings, find_root, load_settings

LOCAL = """
# comments and quotes are taken
PGHOST=127.0.0.1
PGPORT="5432"
export PGUSER=runner
PGPASSWORD='a $b'
PGDATABASE=shop
REDIS_URL=redis://:p%40ss@cache:6380/0
MLFLOW_TRACKING_URI=sqlite:///mlruns/mlflow.db
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "dbt_project.yml").touch()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "local.env").write_text(LOCAL)
    (tmp_path / "profiles" / "cloud.env").write_text(
        "REDIS_URL=redis://cache\nMLFLOW_TRACKING_URI=https://mlflow.example\n"
        "GOOGLE_CLOUD_PROJECT=shop\nFEAST_REGISTRY=gs://shop/registry.db\n"
    )
    return tmp_path


def test_connections_come_from_the_targets_file(project):
    settings = load_settings("local", project)
    assert settings.postgres.conninfo == {
        "host": "127.0.0.1",
        "port": 5432,
        "user": "runner",
        "password": "a $b",
        "dbname": "shop",
    }
    assert (settings.redis.host, settings.redis.port) == ("cache", 6380)
    assert settings.redis.password == "p@ss"


def test_the_process_environment_wins_over_the_file(project, monkeypatch):
    monkeypatch.setenv("PGHOST", "db.example")
    settings = load_settings("local", project)
    assert settings.postgres.host == "db.example"
    assert settings.postgres.user == "runner"


@pytest.mark.parametrize(
    ("option", "variable", "target"),
    [(None, None, "local"), (None, "cloud", "cloud"), ("local", "cloud", "local")],
)
def test_the_option_wins_over_app_env_and_local_is_the_default(
    project, monkeypatch, option, variable, target
):
    if variable:
        monkeypatch.setenv("APP_ENV", variable)
    settings = load_settings(option, project)
    assert settings.target == target
    assert settings.env["APP_ENV"] == target


def test_an_unknown_target_is_refused(project, monkeypatch):
    with pytest.raises(RunnerError, match="unknown target 'prod'") as refused:
        load_settings("prod", project)
    assert "--target local" in refused.value.hint


def test_no_tool_phones_home_unless_asked_to(project, monkeypatch):
    assert load_settings("local", project).env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert load_settings("local", project).env["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_a_missing_file_is_named(project):
    (project / "profiles" / "local.env").unlink()
    with pytest.raises(RunnerError, match=r"profiles/local\.env: no such file"):
        load_settings("local", project)


def test_missing_and_empty_variables_are_named_at_once(project):
    (project / "profiles" / "local.env").write_text("PGHOST=\nPGPORT\nREDIS_URL=redis://x\n")
    with pytest.raises(RunnerError) as refused:
        load_settings("local", project)
    assert refused.value.message.endswith(
        "local.env: MLFLOW_TRACKING_URI, PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE not set"
    )
    assert refused.value.hint == (
        "add MLFLOW_TRACKING_URI=…, PGHOST=…, PGPORT=…, PGUSER=…, PGPASSWORD=…, PGDATABASE=… "
        "to local.env, or to the environment"
    )


def test_the_cloud_needs_no_postgresql(project):
    settings = load_settings("cloud", project)
    assert settings.mlflow_tracking_uri == "https://mlflow.example"
    with pytest.raises(RunnerError, match="target cloud has no PostgreSQL"):
        _ = settings.postgres


@pytest.mark.parametrize("port", ["abc", "-1", "0", "65536", "5432.0", "٣", "²", "9" * 5000])
def test_a_port_that_is_none_is_refused(project, monkeypatch, port):
    monkeypatch.setenv("PGPORT", port)
    settings = load_settings("local", project)
    with pytest.raises(RunnerError, match=r"^PGPORT='.*' is not a port number$") as refused:
        _ = settings.postgres
    assert "profiles/local.env" in refused.value.hint


def test_a_redis_url_that_cannot_be_carried_out_is_the_users_mistake(project, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache?socket_timeout=1")
    with pytest.raises(RunnerError, match="the option socket_timeout is not supported"):
        _ = load_settings("local", project).redis


def test_passwords_are_not_shown(project):
    settings = load_settings("local", project)
    shown = f"{settings!r} {settings.postgres!r} {settings.redis!r}"
    assert "a $b" not in shown
    assert "p%40ss" not in shown


@pytest.mark.parametrize(
    ("uri", "resolved"),
    [
        ("sqlite:///mlruns/mlflow.db", "sqlite:///{root}/mlruns/mlflow.db"),
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_a_relative_sqlite_path_is_the_projects(project, monkeypatch, uri, resolved):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    settings = load_settings("local", project)
    assert settings.mlflow_tracking_uri == resolved.format(root=project)


def test_export_gives_the_variables_to_the_tools(project, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    load_settings("local", project).export()
    assert os.environ["PGDATABASE"] == "shop"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{project}/mlruns/mlflow.db"


def test_the_project_is_found_from_any_folder_within(project, monkeypatch):
    within = project / "recipes" / "old"
    within.mkdir(parents=True)
    monkeypatch.chdir(within)
    assert load_settings("local").root == project
    assert find_root(Path()) == project


def test_outside_a_project_the_way_in_is_shown(tmp_path):
    with pytest.raises(RunnerError, match=r"no dbt_project\.yml in") as refused:
        find_root(tmp_path)
    assert "change into a project folder" in refused.value.hint


def test_every_file_has_its_place_in_the_project():
    settings = Settings("cloud", Path("/p"), {})
    assert settings.manifest_path == Path("/p/target/manifest.json")
    assert settings.feature_repo == Path("/p/feature_repo")
    assert settings.feature_store_yaml == Path("/p/profiles/feature_store.cloud.yaml")
