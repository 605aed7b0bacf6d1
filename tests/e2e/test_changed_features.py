"""A served model keeps the features it was trained on, whatever is changed under it."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.e2e.conftest import Project, environment, served
from tests.small_project import write_project

V2 = "models/feature_mart/reading_v2.sql"
MART = "models/feature_mart/reading.sql"
YAML = "models/feature_mart/reading.yml"
RECIPE = "recipes/small.yaml"
# Of user 7 on day 29.
NEWEST = (7 * 7 + 29 * 3) % 10 / 10
ENTITY = {"entity_rows": [{"user_id": 7}], "include_features": True}
READINGS = """
    create schema raw_data;
    create table raw_data.readings as
    select
        u::bigint as user_id,
        timestamptz '2026-01-01 00:00+00' + interval '1 day' * d as event_timestamp,
        (u * 7 + d * 3) % 10 / 10.0::float as amount,
        'x' as text
    from generate_series(0, 19) as u, generate_series(0, 29) as d
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, new_database, redis_server):
    """The small project, trained, materialized and not yet changed."""
    root = write_project(tmp_path_factory.mktemp("changed"))
    project = Project(root, environment(new_database(), redis_server))
    project.query(READINGS)
    project.runner("train", RECIPE)
    project.runner("materialize")
    return project


@pytest.fixture(scope="module")
def api(project):
    """The API of version 1."""
    with served(project, RECIPE) as running:
        yield running


def change(project, name, *pairs):
    """Change a file of the project."""
    path = project.root / name
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def edit(project):
    """Change a file of the project for one test."""
    before = {}

    def edited(name, *pairs):
        path = project.root / name
        before.setdefault(path, path.read_text())
        change(project, name, *pairs)

    yield edited
    for path, text in before.items():
        path.write_text(text)


def value(api):
    [row] = api.post("/predict", ENTITY)["predictions"]
    return row["features"]["reading__amount"]


def warehouse(project):
    return project.query("select max(amount) from feature_mart.reading")[0][0]


class Answers:
    """What a client was answered: the wrong ones, and the version of the last."""

    def __init__(self):
        self.wrong = []
        self.version = ""

    def note(self, answer):
        self.version = answer["model"]["version"]
        features = answer["predictions"][0]["features"]
        expected = {"1": {"reading__amount": 1}, "2": {"reading_v2__amount": 1000}}[self.version]
        for name, unit in expected.items():
            if features[name]["status"] != "present" or features[name]["value"] != NEWEST * unit:
                self.wrong.append(answer)

    def until(self, version):
        deadline = time.monotonic() + 60
        while self.version != version:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def ask(api):
    """Return the answer about one entity; of a machine so busy that it is 503, the next."""
    while True:
        answer = httpx.post(f"{api.address}/predict", json=ENTITY, timeout=30)
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            return answer.json()


@contextmanager
def asking(api):
    """Ask for one entity all the time."""
    answers, ended = Answers(), threading.Event()

    def go_on():
        while not ended.wait(0.2):
            answers.note(ask(api))

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(go_on)
        try:
            yield answers
        finally:
            ended.set()
    client.result()


def test_another_unit_reaches_neither_the_table_nor_the_served_model(project, api, edit):
    before = value(api)
    edit(MART, ("amount from", "amount * 1000 as amount from"))
    refused = project.refused("train", RECIPE)
    assert "reading: amount changed, and small version 1 (champion) was trained on" in refused
    assert "+ amount * 1000 AS amount" in refused
    assert "--accept-changed-features" in refused
    project.query("insert into raw_data.readings values (999, '2031-01-01', 0.5, 'x')")
    assert "reading: amount changed" in project.refused("refresh", RECIPE)
    assert project.query("select * from feature_mart.reading where user_id = 999") == []
    project.query("delete from raw_data.readings where user_id = 999")
    assert warehouse(project) == 0.9
    assert project.registered("small") == (["1"], ["champion"])

    bare = project.run("dbt", "build", "--full-refresh", "--target", "local")
    assert bare.returncode == 0, bare.stdout
    assert warehouse(project) == 900
    assert "reading: amount changed" in project.refused("materialize")
    assert value(api)["value"] == before["value"]
    (project.root / "keys.csv").write_text("user_id\n1\n")
    scored = project.run("runner", "predict", RECIPE, "keys.csv", "--output", "scored.csv")
    assert scored.returncode == 0, scored.stderr
    assert "small version 1 was trained on another definition of reading:amount" in scored.stderr


def test_a_change_that_was_undone_is_built_again_before_values_are_copied(project, api):
    before, unit = value(api), ("amount from", "amount * 1000 as amount from")
    change(project, MART, unit)
    project.run("dbt", "build", "--full-refresh", "--target", "local")
    change(project, MART, unit[::-1])
    assert warehouse(project) == 900
    # Rows that dbt adds by the right SQL do not correct those that it has, nor does reading it.
    project.run("dbt", "build", "--select", "reading", "--target", "local")
    refused = project.refused("materialize")
    assert "reading: the table was built from other SQL than the project has now" in refused
    assert "amount may have other values" in refused
    (project.root / "keys.csv").write_text("user_id\n1\n")
    scored = project.run("runner", "predict", RECIPE, "keys.csv", "--output", "scored.csv")
    assert "predictions are wrong if they use reading:amount" in scored.stderr
    assert "built from other SQL" in project.refused("train", RECIPE, "--no-build")
    assert value(api)["value"] == before["value"]
    project.runner("refresh", RECIPE)
    assert warehouse(project) == 0.9
    project.runner("materialize")
    assert value(api)["value"] == before["value"]


def test_a_renamed_feature_stays_where_the_served_model_reads_it(project, api, edit):
    before = value(api)
    edit(MART, ("amount from", "amount as quantity from"))
    edit(YAML, ("name: amount", "name: quantity"))
    edit(RECIPE, ("reading:amount", "reading:quantity"))
    refused = project.refused("train", RECIPE)
    assert "reading: amount changed" in refused
    assert "- reading:amount" in refused
    project.run("dbt", "build", "--full-refresh", "--target", "local")
    refused = project.refused("materialize")
    assert "reading:amount is no longer in dbt, and small version 1 (champion) reads it" in refused
    assert value(api)["value"] == before["value"]
    assert value(api)["status"] == "present"


def test_a_view_that_left_dbt_stays_while_a_served_model_reads_it(project, api, edit):
    before = value(api)
    edit(YAML, ("entities: {user: user_id}", "entities: {user: user_id}, online: false"))
    project.run("dbt", "parse", "--target", "local")
    assert "small version 1 (champion) reads" in project.refused("materialize")
    assert value(api)["value"] == before["value"]


def test_a_mart_is_changed_beside_and_no_answer_is_wrong_on_the_way(project, api):
    """docs/changing-a-feature.md, done while a client asks all the time."""
    project.run("dbt", "build", "--full-refresh", "--target", "local")
    with asking(api) as answers:
        written = project.runner("new-version", "reading")
        assert "reading_v2.sql" in written
        change(project, V2, ("amount from", "amount * 1000 as amount from"))
        change(project, RECIPE, ("reading:amount", "reading.v2:amount"))
        project.runner("train", RECIPE)
        assert project.registered("small")[0] == ["1", "2"]
        project.runner("materialize")
        project.runner("promote", RECIPE)
        answers.until("2")
        project.runner("rollback", RECIPE)
        answers.until("1")
        project.runner("promote", RECIPE, "2")
        answers.until("2")
        audited = project.runner("audit", RECIPE)
        assert "reading_v2:amount" in audited

        (project.root / MART).unlink()
        first = "      - v: 1\n        defined_in: reading\n        config: {alias: reading}\n"
        change(project, YAML, (first, ""), ("latest_version: 1", "latest_version: 2"))
        project.run("dbt", "build", "--target", "local")
        done = project.run("runner", "materialize")
        assert done.returncode == 0, done.stderr
        assert "reading: removed from 20 entities" in done.stderr
        answers.until("2")
    assert answers.wrong == []


def test_a_change_on_purpose_retires_the_champion_and_is_marked_until_it_is_materialized(
    project, api
):
    change(project, V2, ("amount * 1000", "amount * 2000"))
    audited = project.run("runner", "audit", RECIPE)
    assert audited.returncode == 1
    assert "reading_v2: amount changed" in audited.stderr
    project.runner("train", RECIPE, "--accept-changed-features", "the unit was wrong")
    # Its mart is incremental: built from nothing, no row has the former unit.
    rows = project.query("select min(amount), max(amount) from feature_mart.reading_v2")
    assert rows == [(0, 1800)]
    assert tag(project, "2") == ["the unit was wrong"]
    seen = until(
        api, lambda answer: answer["model"]["version"] == "3" and status(answer) != "present"
    )
    assert status(seen) == "changed"
    assert (
        "was trained on other features: reading_v2:amount" in project.run("runner", "doctor").stdout
    )
    project.runner("materialize")
    seen = until(api, lambda answer: status(answer) == "present")
    assert seen["predictions"][0]["features"]["reading_v2__amount"]["value"] == NEWEST * 2000


def status(answer):
    return answer["predictions"][0]["features"]["reading_v2__amount"]["status"]


def until(api, holds):
    """Ask until the answer is as it must become; return it."""
    deadline = time.monotonic() + 60
    while not holds(answer := ask(api)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def tag(project, version):
    """Return why a version was retired."""
    path = project.settings.mlflow_tracking_uri.removeprefix("sqlite:///")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        found = database.execute(
            "select value from model_version_tags where key = 'retired' and version = ?", [version]
        )
        return [value for (value,) in found]
