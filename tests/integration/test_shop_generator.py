"""`python -m examples.shop` against a real PostgreSQL."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from examples.shop.load import Parameters, is_loaded, write
from examples.shop.simulation import simulate
from examples.shop.tables import DDL, raw_tables
from tests import warm
from tests.conftest import free_port, postgres_env

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = ["--users", "60", "--days", "40", "--seed", "7", "--end", "2025-06-30"]
PARAMETERS = Parameters(60, 40, 7, datetime(2025, 6, 30, tzinfo=UTC))


def start(database, *options):
    env = {
        **os.environ,
        **postgres_env(database),
    }
    return subprocess.Popen(
        [warm.program("python"), "-m", "examples.shop", *options],
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def generate(database, *options):
    process = start(database, *options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def connection(database):
    with psycopg.connect(**database.conninfo, autocommit=True) as connection:
        yield connection


def counts(connection):
    return {
        name: connection.execute(f"select count(*) from raw_data.{name}").fetchone()[0]
        for name in DDL
    }


def file_of_events(connection):
    """PostgreSQL writes a new file when a table is replaced."""
    return connection.execute("select pg_relation_filepath('raw_data.events')").fetchone()


def shop_tables():
    return raw_tables(simulate(60, 40, 7), PARAMETERS.end)


def test_the_command_writes_every_row_and_says_how_many(database, connection):
    code, out, err = generate(database, *OPTIONS)
    assert code == 0, err
    expected = {name: table.num_rows for name, table in shop_tables().items()}
    assert counts(connection) == expected
    assert out.splitlines() == [f"raw_data.{name}: {rows} rows" for name, rows in expected.items()]


def test_what_is_written_is_what_was_simulated(connection):
    tables = shop_tables()
    write(connection, tables, PARAMETERS, "feature_mart")
    for name, table in tables.items():
        stored = connection.execute(f"select * from raw_data.{name} order by 1").fetchall()
        # amounts are floats in Arrow and exact in the database
        assert [
            tuple(
                float(v) if k == "amount" else v
                for k, v in zip(table.column_names, row, strict=True)
            )
            for row in stored
        ] == [tuple(row.values()) for row in table.to_pylist()], name


def test_a_second_run_leaves_everything_as_it_is(database, connection):
    generate(database, *OPTIONS)
    before = file_of_events(connection)
    code, out, _ = generate(database, *OPTIONS)
    assert code == 0
    assert "already there" in out
    assert file_of_events(connection) == before


def test_force_writes_the_same_rows_again(database, connection):
    generate(database, *OPTIONS)
    before, rows = file_of_events(connection), counts(connection)
    assert generate(database, *OPTIONS, "--force")[0] == 0
    assert file_of_events(connection) != before
    assert counts(connection) == rows


@pytest.mark.parametrize("change", ["users", "days", "seed", "end"])
def test_other_options_replace_the_rows(connection, change):
    write(connection, shop_tables(), PARAMETERS, "feature_mart")
    other = {
        "users": Parameters(61, 40, 7, PARAMETERS.end),
        "days": Parameters(60, 41, 7, PARAMETERS.end),
        "seed": Parameters(60, 40, 8, PARAMETERS.end),
        "end": Parameters(60, 40, 7, datetime(2025, 7, 1, tzinfo=UTC)),
    }[change]
    assert is_loaded(connection, PARAMETERS)
    assert not is_loaded(connection, other)


def test_a_failure_half_way_leaves_the_old_rows(connection):
    tables = shop_tables()
    write(connection, tables, PARAMETERS, "feature_mart")
    before = file_of_events(connection), counts(connection)
    last = tables["recommendations"]
    tables["recommendations"] = last.set_column(
        1, "user_id", pa.array([None] * last.num_rows, pa.int64())
    )
    with pytest.raises(psycopg.errors.NotNullViolation):
        write(connection, tables, PARAMETERS, "feature_mart")
    assert (file_of_events(connection), counts(connection)) == before
    assert is_loaded(connection, PARAMETERS)


def test_two_runs_at_once_both_succeed(database, connection):
    processes = [start(database, *OPTIONS, "--force") for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert counts(connection)["users"] == shop_tables()["users"].num_rows


def test_replaced_rows_take_the_incremental_marts_with_them(connection):
    connection.execute("create schema dev_feature_mart")
    connection.execute("create table dev_feature_mart.user_activity (user_id bigint)")
    write(connection, shop_tables(), PARAMETERS, "dev_feature_mart")
    found = connection.execute("select to_regclass('dev_feature_mart.user_activity')").fetchone()
    assert found == (None,)


def test_without_a_server_the_command_says_what_to_do(database):
    nowhere = type(database)("127.0.0.1", free_port(), "runner", "runner", "shop")
    code, out, err = generate(nowhere, *OPTIONS)
    assert code == 1
    assert not out
    assert err.splitlines()[-2].startswith(f"error: PostgreSQL at 127.0.0.1:{nowhere.port}: ")
    assert err.splitlines()[-1].startswith("hint: run `runner up`")
