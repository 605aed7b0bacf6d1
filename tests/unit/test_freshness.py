"""dbt is not asked again about a project that did not change, and always about one that did."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from runner.commands.builds.exposures import write_exposures
from runner.project import freshness
from runner.project.freshness import GENERATED_MARK
from runner.settings import Settings

FILES = {
    "dbt_project.yml": "name: shop\nprofile: shop\nmodel-paths: [sql]\n",
    "profiles.yml": "shop: {outputs: {local: {host: \"{{ env_var('PGHOST', 'x') }}\"}}}\n",
    "packages.yml": "packages: []\n",
    "sql/feature_mart/user.sql": "select 1 as x, {{ env_var('SCALE') }} as y",
    "sql/feature_mart/user.yml": "models: [{name: user}]\n",
    "macros/units.sql": "{% macro units() %}1{% endmacro %}",
    "seeds/rates.csv": "a,b\n1,2\n",
    "dbt_packages/utils/macros/star.sql": "{% macro star() %}*{% endmacro %}",
}
ENV = {
    "PGHOST": "a",
    "SCALE": "1",
    "DBT_SCHEMA_PREFIX": "",
    "OTHER": "1",
    "MLFLOW_TRACKING_URI": "sqlite:///nowhere.db",
}


@pytest.fixture
def settings(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Settings("local", tmp_path, ENV)


@pytest.fixture
def parsed(settings):
    """Settings of a project that dbt has read."""
    before = freshness.fingerprint(settings)
    write_manifest(settings, "mine")
    freshness.remember(settings, before, "mine")
    assert freshness.is_current(settings)
    return settings


def write_manifest(settings, invocation_id):
    path = settings.manifest_path
    path.parent.mkdir(exist_ok=True)
    metadata = {"invocation_id": invocation_id, "project_name": "shop"}
    path.write_text(json.dumps({"metadata": metadata, "nodes": {}, "macros": {}}))


@pytest.mark.parametrize("name", FILES)
def test_an_edited_file_is_a_change(parsed, name):
    with (parsed.root / name).open("a") as file:
        file.write("# more\n")
    assert not freshness.is_current(parsed)


@pytest.mark.parametrize("name", [name for name in FILES if name != "dbt_project.yml"])
def test_a_file_that_is_gone_or_has_another_name_is_a_change(parsed, name):
    path = parsed.root / name
    path.rename(path.with_name(f"other{path.suffix}"))
    assert not freshness.is_current(parsed)
    path.with_name(f"other{path.suffix}").unlink()
    assert not freshness.is_current(parsed)


def test_an_edit_that_keeps_size_and_time_is_a_change(parsed):
    path = parsed.root / "sql/feature_mart/user.sql"
    shutil.copystat(path, parsed.root / "times")
    path.write_text(path.read_text().replace("1 as x", "2 as x"))
    shutil.copystat(parsed.root / "times", path)
    assert not freshness.is_current(parsed)


def test_what_was_undone_is_no_change(parsed):
    path = parsed.root / "sql/feature_mart/user.sql"
    text = path.read_text()
    path.write_text("select 2 as x")
    path.write_text(text)
    assert freshness.is_current(parsed)


@pytest.fixture(autouse=True)
def _times(tmp_path):
    (tmp_path / "times").touch()


@pytest.mark.parametrize(
    ("name", "is_a_change"),
    [("PGHOST", True), ("SCALE", True), ("DBT_SCHEMA_PREFIX", True), ("OTHER", False)],
)
def test_a_variable_that_dbt_reads_is_a_change(parsed, name, is_a_change):
    other = Settings("local", parsed.root, {**ENV, name: "2"})
    assert freshness.is_current(other) is not is_a_change
    gone = Settings("local", parsed.root, {k: v for k, v in ENV.items() if k != name})
    assert freshness.is_current(gone) is not is_a_change


@pytest.mark.parametrize(
    "call", ["env_var(''SCALE'')", 'env_var("SCALE")', r"env_var(\"SCALE\", '1')"]
)
def test_a_variable_is_known_by_its_name_in_quoted_yaml_too(settings, call):
    (settings.root / "profiles.yml").write_text(f"shop: {{{{ {call} }}}}\n")
    assert freshness.fingerprint(settings) is not None


def test_another_target_and_another_version_of_dbt_are_changes(parsed, monkeypatch):
    assert not freshness.is_current(Settings("cloud", parsed.root, ENV))
    monkeypatch.setattr(freshness, "version", lambda _: "99")
    assert not freshness.is_current(parsed)


def test_a_profile_in_another_folder_is_read_there(parsed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "profiles.yml").write_text("shop: {}\n")
    elsewhere = Settings("local", parsed.root, {**ENV, "DBT_PROFILES_DIR": str(folder)})
    before = freshness.fingerprint(elsewhere)
    (folder / "profiles.yml").write_text("shop: {outputs: {}}\n")
    assert freshness.fingerprint(elsewhere) != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sql/computed.sql", "{{ env_var('A' ~ 'B') }}"),
        ("dbt_project.yml", "model-paths: [\"{{ var('folder') }}\"]\n"),
        ("dbt_project.yml", "model-paths: {sql: 1}\n"),
        ("dbt_project.yml", "]: ["),
    ],
)
def test_what_is_in_doubt_is_never_current(settings, name, text):
    (settings.root / name).write_text(text)
    assert freshness.fingerprint(settings) is None
    write_manifest(settings, "mine")
    freshness.remember(settings, freshness.fingerprint(settings), "mine")
    assert not freshness.is_current(settings)


def test_the_manifest_of_another_dbt_is_not_ours(settings, parsed):
    write_manifest(parsed, "theirs")
    assert not freshness.is_current(parsed)
    freshness.remember(settings, freshness.fingerprint(settings), "mine")
    assert not freshness.is_current(parsed)


def test_a_project_that_was_edited_while_dbt_read_it_is_read_again(settings):
    before = freshness.fingerprint(settings)
    (settings.root / "sql/feature_mart/user.sql").write_text("select 3")
    write_manifest(settings, "mine")
    freshness.remember(settings, before, "mine")
    assert not freshness.is_current(settings)


def test_the_exposures_that_we_write_are_no_change_and_the_users_files_beside_them_are(parsed):
    write_exposures(parsed)
    assert freshness.is_current(parsed)
    write_file(parsed, "sql/_generated/exposures.yml", f"{GENERATED_MARK} once more\n")
    assert freshness.is_current(parsed)
    write_file(parsed, "sql/_generated/mart.sql", "select 1")
    assert not freshness.is_current(parsed)


def write_file(settings, name, text):
    (settings.root / name).parent.mkdir(exist_ok=True)
    (settings.root / name).write_text(text)


def test_an_exposure_that_the_user_wrote_is_a_change(parsed):
    write_file(parsed, "sql/_generated/exposures.yml", "exposures: []\n")
    assert not freshness.is_current(parsed)


def test_a_project_that_cannot_be_written_is_read_every_time(settings, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError

    write_manifest(settings, "mine")
    monkeypatch.setattr(Path, "write_text", refuse)
    freshness.remember(settings, freshness.fingerprint(settings), "mine")
    assert not freshness.is_current(settings)


def test_yaml_that_is_newer_than_the_manifest_may_not_have_been_read(settings, parsed):
    assert not freshness.is_newer_than_manifest(parsed)
    later = settings.manifest_path.stat().st_mtime + 1
    os.utime(settings.root / "sql/feature_mart/user.sql", (later, later))
    assert not freshness.is_newer_than_manifest(parsed)
    os.utime(settings.root / "sql/feature_mart/user.yml", (later, later))
    assert freshness.is_newer_than_manifest(parsed)


def test_what_a_full_disk_keeps_out_of_date_is_forgotten(settings, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    freshness.keep(settings, "builds", {"spine": "finished"})
    monkeypatch.setattr(Path, "write_text", refuse)
    freshness.keep(settings, "builds", {"spine": "begun"})
    assert freshness.kept(settings, "builds") == {}
