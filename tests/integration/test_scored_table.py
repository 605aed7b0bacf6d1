"""Predictions in a table: per version and day all rows or none, and a repeat replaces them."""

import dataclasses
import threading
from datetime import UTC, datetime, time, timedelta

import psycopg
import pyarrow as pa
import pytest

from runner.errors import RunnerError
from runner.settings import Settings
from runner.warehouse.open_scored import open_scored
from runner.warehouse.scored_table import ScoredBy, parse_table

BY = ScoredBy("purchase", "3", datetime(2026, 3, 1, 23, 30, tzinfo=UTC))
TABLE = ("scores", "purchase")


def rows(*users, label=1):
    when = pa.array([BY.at] * len(users), pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "user_id": pa.array(users, pa.int64()),
            "event_timestamp": when,
            "prediction": pa.array([label] * len(users)),
            "probability_1": pa.array([0.1 + 0.2] * len(users)),
            "missing_views": pa.array([None] * len(users), pa.string()),
        }
    )


class Table:
    """The table in a database of its own."""

    def __init__(self, address):
        self.settings = Settings("local", None, dict(zip(
            ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"),
            (address.host, str(address.port), address.user, address.password, address.database),
            strict=True,
        )))  # fmt: skip
        self.address = address

    def write(self, *parts, by=BY, then=lambda: None):
        schema = by.with_rows(parts[0]).schema
        with open_scored(self.settings, TABLE, schema, by) as scored:
            for part in parts:
                scored.write(by.with_rows(part))
            then()

    def reader(self):
        return psycopg.connect(**self.address.conninfo, autocommit=True)

    def query(self, sql):
        with self.reader() as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    @property
    def users(self):
        return self.query("select model_version, user_id from scores.purchase order by 1, 2")


@pytest.fixture
def table(database):
    return Table(database)


def test_a_row_says_which_version_predicted_when(table):
    table.write(rows(1))
    [found] = table.query("select *, tableoid::regclass::text from scores.purchase")
    day = BY.at.date()
    assert found == (
        *(day, "purchase", "3", BY.at, 1, BY.at, 1, 0.1 + 0.2, None),
        "scores.purchase_20260301",
    )


_ODD = {
    "empty": pa.nulls(1),
    "clock": pa.array([time(12, 30)], pa.time32("s")),
    "small": pa.array([7], pa.uint8()),
    "large": pa.array([2**64 - 1], pa.uint64()),
    "half": pa.array([0.5], pa.float32()).cast(pa.float16()),
    "category": pa.array(["a"]).dictionary_encode(),
    "wide": pa.array(["b"], pa.large_string()),
    "day": pa.array([BY.at.date()], pa.date64()),
    "bare": pa.array([BY.at.date()]).cast(pa.timestamp("ns")),
}


def test_further_columns_of_a_file_are_kept_whatever_their_types(table):
    odd = pa.table(_ODD)
    table.write(odd)
    table.write(odd)
    [found] = table.query(f"select {', '.join(_ODD)} from scores.purchase")
    bare = datetime(2026, 3, 1, tzinfo=UTC)
    assert found == (None, "12:30:00", 7, 2**64 - 1, 0.5, "a", "b", BY.at.date(), bare)


def test_a_column_that_no_table_takes_is_refused_before_a_table_is_made(table):
    with pytest.raises(RunnerError, match=r"column tags is list<item: int64>, which cannot"):
        table.write(pa.table({"tags": [[1, 2]]}))
    assert table.query("select to_regnamespace('scores')") == [(None,)]


def test_a_repeat_replaces_and_other_versions_and_days_stay(table):
    table.write(rows(1, 2), rows(3))
    table.write(rows(1), by=dataclasses.replace(BY, version="2"))
    table.write(rows(1), by=dataclasses.replace(BY, at=BY.at + timedelta(hours=1)))
    table.write(rows(4), by=dataclasses.replace(BY, at=BY.at - timedelta(hours=1)))
    assert table.users == [("2", 1), ("3", 1), ("3", 4)]


def test_what_fails_half_the_way_leaves_what_was_there(table):
    table.write(rows(1))
    with pytest.raises(ZeroDivisionError):
        table.write(rows(2), then=lambda: 1 / 0)
    assert table.users == [("3", 1)]


def test_two_at_once_leave_the_rows_of_one_and_readers_do_not_wait(table):
    table.write(rows(1))
    second = threading.Thread(target=table.write, args=[rows(3)])

    def meanwhile():
        second.start()
        assert table.users == [("3", 1)]

    table.write(rows(2), then=meanwhile)
    second.join(30)
    assert table.users == [("3", 3)]


def test_the_first_run_of_a_day_keeps_no_reader_waiting_nor_waits_for_one(table):
    table.write(rows(1))
    table.query("create index on scores.purchase (user_id)")
    table.query(f"alter database \"{table.address.database}\" set lock_timeout = '2s'")
    tomorrow = dataclasses.replace(BY, at=BY.at + timedelta(days=1))
    with table.reader() as reader, reader.transaction():
        reader.execute("select * from scores.purchase")
        table.write(rows(2), by=tomorrow, then=lambda: table.query("select * from scores.purchase"))
    assert table.users == [("3", 1), ("3", 2)]
    [partition] = table.query(
        "select tableoid::regclass::text from scores.purchase where user_id = 2"
    )
    assert partition == ("scores.purchase_20260302",)


def test_columns_that_the_table_does_not_have_are_named(table):
    table.write(rows(1))
    with pytest.raises(RunnerError) as caught:
        table.write(rows(1, label="yes").append_column("more", pa.array([True])))
    assert caught.value.message == (
        "scores.purchase lacks columns of these predictions: prediction text (it is bigint), "
        "more boolean (missing)"
    )
    assert table.users == [("3", 1)]


def test_a_table_that_somebody_else_made_is_written_too(table):
    table.write(rows(1))
    table.query("create table scores.mine as table scores.purchase")
    table.query("drop table scores.purchase; alter table scores.mine rename to purchase")
    table.query("alter table scores.purchase add column note text")
    table.write(rows(2))
    assert table.users == [("3", 2)]


def test_a_name_that_is_no_table_is_refused():
    assert parse_table("a.b_1") == ("a", "b_1")
    for name in ("a", "a.b.c", 'a."b"', "a.b; drop table c"):
        with pytest.raises(RunnerError, match=r"not SCHEMA\.TABLE"):
            parse_table(name)
