"""`runner materialize` over a whole project: views that left dbt, views that fail."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.serving_errors import ServingError
from runner.commands.builds import view_guard
from runner.commands.online.online_values import materialize
from runner.errors import RunnerError
from runner.lineage.feature_definitions import Definitions
from runner.online.materialize import materialize as copy_marts
from runner.project.manifest import FeatureMart, MartColumn
from runner.settings import PostgresAddress
from tests.instants import at
from tests.online_project import OnlineProject


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    made = OnlineProject(tmp_path, database, redis_url)
    yield made
    made.sql.close()


@pytest.fixture
def views(project: OnlineProject) -> list[FeatureMart]:
    """Return two views of one entity, each with a row."""
    for name in ("v", "w"):
        mart = project.mart(name, {"id": "int64"}, {"x": "int64"})
        project.insert(mart, [1, at(-3), at(-3), 7])
    project.write_manifest()
    return project.marts


def _watermarks(project: OnlineProject) -> set[bytes]:
    with project.redis() as client:
        return set(client.keys("runner:materialize:*"))


@pytest.mark.parametrize("departure", ["deleted", "renamed", "offline"])
@pytest.mark.parametrize("is_old", [True, False])
def test_a_view_that_left_dbt_leaves_the_online_store(
    project: OnlineProject,
    views: list[FeatureMart],
    departure: str,
    is_old: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy_marts(project.settings, views, feast_project="another")
    theirs = project.online()
    materialize(project.settings, [], full=False)
    if is_old:  # the previous version did not note the join keys
        with project.redis() as client:
            client.hdel("runner:materialize:shop:v", "join_keys")
    left = views.pop(0)
    if departure == "renamed":
        project.sql.execute("alter table feature_mart.v rename to u")
        views.append(dataclasses.replace(left, name="u", alias="u"))
    if departure == "offline":
        views.append(dataclasses.replace(left, online=False))
    project.write_manifest()
    views[:] = [mart for mart in views if mart.online]
    capsys.readouterr()
    materialize(project.settings, [], full=False)
    assert project.online() == project.expected() | theirs
    assert b"runner:materialize:shop:v" not in _watermarks(project)
    assert b"runner:materialize:another:v" in _watermarks(project)
    line = "v: removed from 1 entity; it is no longer online in dbt"
    assert capsys.readouterr().err.count(line) == 1
    materialize(project.settings, [], full=False)
    assert line not in capsys.readouterr().err


@pytest.mark.parametrize("departure", ["deleted", "offline"])
def test_the_last_view_that_left_dbt_is_removed_without_an_error(
    project: OnlineProject,
    views: list[FeatureMart],
    departure: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    materialize(project.settings, [], full=False)
    manifest = json.loads(project.settings.manifest_path.read_text())
    if departure == "deleted":
        manifest["nodes"] = {}
    for mart in views if manifest["nodes"] else []:
        manifest["nodes"][mart.name]["config"]["meta"]["online"] = False
    project.settings.manifest_path.write_text(json.dumps(manifest))
    capsys.readouterr()
    assert materialize(project.settings, [], full=False) == ([], [])
    assert project.online() == {}
    assert "v: removed from 1 entity" in capsys.readouterr().err
    assert materialize(project.settings, [], full=False) == ([], [])
    assert "nothing to copy or remove: no feature mart" in capsys.readouterr().err


def test_views_that_are_named_leave_the_others_alone(
    project: OnlineProject, views: list[FeatureMart]
) -> None:
    materialize(project.settings, [], full=False)
    before = project.online()
    del views[0]
    project.write_manifest()
    materialize(project.settings, ["w"], full=False)
    assert project.online() == before


@pytest.mark.parametrize("departure", ["view", "feature"])
def test_what_left_dbt_stays_while_mlflow_does_not_say_who_reads_it(
    project: OnlineProject,
    views: list[FeatureMart],
    departure: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    materialize(project.settings, [], full=False)
    before = project.online()
    if departure == "view":
        del views[0]
    else:
        columns = {name: c for name, c in views[0].columns.items() if name != "x"}
        views[0] = dataclasses.replace(
            views[0], columns=columns | {"y": MartColumn("y", "int64", "")}
        )
        project.sql.execute("alter table feature_mart.v rename column x to y")
    project.write_manifest()
    nothing = Definitions("postgres", {}, {})
    monkeypatch.setattr(view_guard, "known_definitions", lambda *_: nothing)
    away = {**project.settings.env, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    settings = dataclasses.replace(project.settings, env=away)
    _, errors = materialize(settings, [], full=False)
    assert project.online() == before
    assert [err.message.partition(",")[0] for err in errors] == (
        [] if departure == "view" else ["v: x: no longer in dbt"]
    )
    with pytest.raises(ServingError, match="MLflow"):
        materialize(settings, [], full=False, accepted="because")
    materialize(project.settings, [], full=False)
    assert project.online() == project.expected()


def test_a_view_that_breaks_a_rule_keeps_its_values(
    project: OnlineProject, views: list[FeatureMart]
) -> None:
    materialize(project.settings, [], full=False)
    before = project.online()
    path = project.settings.manifest_path
    manifest = json.loads(path.read_text())
    manifest["nodes"]["v"]["config"]["meta"]["ttl"] = "soon"
    path.write_text(json.dumps(manifest))
    reports, [error] = materialize(project.settings, [], full=False)
    assert [report.view for report in reports] == ["w"]
    assert "ttl" in error.message
    assert project.online() == before


def test_a_view_that_fails_in_the_warehouse_does_not_stop_the_others(
    project: OnlineProject, views: list[FeatureMart]
) -> None:
    project.sql.execute("alter table feature_mart.v rename to base")
    project.sql.execute(
        "create view feature_mart.v as "
        "select id, event_timestamp, created_at, x / (x - 7) as x from feature_mart.base"
    )
    missing = dataclasses.replace(views[0], name="u", alias="nothing")
    views.insert(0, missing)
    project.write_manifest()
    reports, errors = materialize(project.settings, ["u", "v", "w"], full=False)
    assert [report.view for report in reports] == ["w"]
    assert "feature_mart.u" in errors[0].message
    assert "v: PostgreSQL refuses the query" in errors[1].message
    assert "division by zero" in errors[1].message
    del views[:2]
    assert project.online() == project.expected()


def test_features_that_share_a_field_are_refused_before_anything_is_written(
    project: OnlineProject,
) -> None:
    twins = {"mean_orders_mobile_14d": "int64", "p95_carts_store_14d": "int64"}
    mart = project.mart("user_activity", {"id": "int64"}, twins)
    project.insert(mart, [1, at(-3), at(-3), 1, 2])
    project.write_manifest()
    for chosen in ([], ["user_activity"]):
        with pytest.raises(RunnerError, match="share one field in Redis"):
            materialize(project.settings, chosen, full=False)
    assert project.online() == {}
