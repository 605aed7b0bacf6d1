"""Rows of a feature mart with the keys and times of another row: counted, and named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.commands.training.duplicate_keys import refuse_duplicates
from runner.errors import RunnerError
from runner.online.materialize import materialize
from runner.settings import PostgresAddress
from runner.warehouse.open_mart import find_duplicates
from tests.instants import at
from tests.online_project import OnlineProject

KEYS = {"user_id": "int64", "category": "string"}


@pytest.fixture
def project(tmp_path: Path, database: PostgresAddress, redis_url: str) -> Iterator[OnlineProject]:
    project = OnlineProject(tmp_path, database, redis_url)
    yield project
    project.sql.close()


def test_duplicates_are_counted_and_the_first_three_named(project):
    mart = project.mart("activity", KEYS, {"orders": "int64"}, created=False)
    assert refuse_duplicates(project.settings, [mart]) == {}
    pairs = [[user, "a", at(-user), orders] for user in range(1, 6) for orders in (1, 2)]
    single = [[9, "a", at(-1), 1], [9, "b", at(-1), 1], [9, "a", at(-2), 1]]
    nulls = [[None, "a", at(-1), 1]] * 2
    project.insert(mart, *pairs, pairs[0], *single, *nulls)
    with pytest.raises(RunnerError) as refused:
        refuse_duplicates(project.settings, [mart])
    assert (
        "activity: 11 rows have the user_id, category, event_timestamp of another row: "
        f"user_id 1, category a, event_timestamp {at(-1):%Y-%m-%d %H:%M:%S}+00 (3 rows); user_id 2"
    ) in refused.value.message
    assert "user_id 3" in refused.value.message
    assert "user_id 4" not in refused.value.message
    assert "meta.created_timestamp_column" in refused.value.hint


def test_versions_of_a_row_are_no_duplicates_and_two_of_one_time_are_warned_of(project, capsys):
    mart = project.mart("activity", KEYS, {"orders": "int64"})
    project.insert(mart, [1, "a", at(-1), at(-1), 1], [1, "a", at(-1), at(0), 1])
    refuse_duplicates(project.settings, [mart])
    assert capsys.readouterr().err == ""
    project.insert(mart, [1, "a", at(-1), at(0), 2])
    refuse_duplicates(project.settings, [mart])
    assert "2 rows have the user_id, category, event_timestamp, created_at of another row" in (
        " ".join(capsys.readouterr().err.split())
    )


def test_a_unique_index_spares_the_search(project):
    mart = project.mart("activity", KEYS, {"orders": "int64"}, created=False)
    table = "feature_mart.activity"
    project.sql.execute(f"create unique index on {table} (user_id, category, event_timestamp)")
    with project.sql.transaction():
        project.sql.execute(f"lock table {table} in access exclusive mode")  # no row can be read
        assert not find_duplicates(project.settings, mart).rows


def test_materialize_names_duplicates_and_copies_the_greatest_values(project):
    mart = project.mart("activity", KEYS, {"orders": "int64"}, created=False)
    project.insert(mart, [1, "a", at(-1), 1], [1, "a", at(-1), 2])
    notes: list[str] = []
    for _ in range(2):  # the second run is incremental: nothing new to say
        materialize(project.settings, [mart], as_of=at(0), note=notes.append)
    [note] = notes
    assert "2 rows have the user_id, category, event_timestamp of another row" in note
    assert note.endswith("(2 rows); the greatest values are copied")
    assert project.online() == project.expected()
