"""Copy the MovieLens files into the schema `raw_data`, as they are, all or nothing.

Run `python load.py --data DIR` in this folder, or `python -m examples.movielens.load --data DIR`
in the repository's.
"""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from psycopg import errors, sql

from runner.console import Step, failure, note, result, step
from runner.errors import RunnerError
from runner.failures import explain
from runner.settings import Settings, load_settings

PROJECT = Path(__file__).resolve().parent
SCHEMA = "raw_data"
DOWNLOAD = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"

_CHUNK_BYTES = 1 << 20
_LOCK = 7_467_002


@dataclass(frozen=True)
class Table:
    """A MovieLens file and the raw table that takes it.

    Attributes
    ----------
    header
        The columns of the file, in its order.
    ddl
        The columns of the table, in the same order, and its constraints.
    """

    name: str
    header: tuple[str, ...]
    ddl: str

    @property
    def file(self) -> str:
        """The file's name in the data folder."""
        return f"{self.name}.csv"


# A file's `timestamp` is in whole seconds since 1970, UTC; staging makes it a timestamp.
TABLES = (
    Table(
        "movies",
        ("movieId", "title", "genres"),
        "movie_id bigint primary key, title text not null, genres text not null",
    ),
    Table(
        "ratings",
        ("userId", "movieId", "rating", "timestamp"),
        """
        user_id bigint not null,
        movie_id bigint not null,
        rating numeric(2, 1) not null,
        rated_epoch bigint not null,
        primary key (user_id, movie_id)
        """,
    ),
    Table(
        "tags",
        ("userId", "movieId", "tag", "timestamp"),
        """
        user_id bigint not null,
        movie_id bigint not null,
        tag text not null,
        tagged_epoch bigint not null
        """,
    ),
)


def load(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="MOVIELENS_DIR",
            help="The folder with movies.csv, ratings.csv and tags.csv.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Copy movies.csv, ratings.csv and tags.csv of MovieLens into the schema raw_data.

    Get the files from https://grouplens.org/datasets/movielens/latest/ (the small set has 1 MB)
    and read their licence: they are not part of this repository.

    Writes to the PostgreSQL database that PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name
    (defaults: profiles/local.env), in one transaction: after a failure the old rows are still
    there. A second run replaces them.
    """
    folder = _checked_folder(data)
    settings = load_settings("local", PROJECT)
    with step(f"copy {folder} into {SCHEMA}") as progress, _connect(settings) as connection:
        rows = replace_raw_data(connection, folder, progress)
        progress.update(f"{sum(rows.values()):,} rows")
    for name, count in rows.items():
        result(f"{SCHEMA}.{name}: {count:,} rows")
    note("next: runner train recipes/liked.yaml")


def _checked_folder(data: Path | None) -> Path:
    """Return the data folder; raise RunnerError unless every file is there with its header."""
    if data is None:
        raise RunnerError(
            "no folder with the MovieLens files",
            hint=f"download and unzip {DOWNLOAD}, then give its folder with --data DIR "
            "or MOVIELENS_DIR",
        )
    for table in TABLES:
        path = data / table.file
        if not path.is_file():
            raise RunnerError(
                f"{path}: no such file",
                hint=f"put movies.csv, ratings.csv and tags.csv of {DOWNLOAD} into {data}",
            )
        _check_header(path, table)
    return data


def _check_header(path: Path, table: Table) -> None:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        header = next(csv.reader(lines), [])
    if tuple(header) != table.header:
        raise RunnerError(
            f"{path}:1: the header is {','.join(header) or 'missing'}, "
            f"not {','.join(table.header)}",
            hint=f"take {table.file} as it is in {DOWNLOAD}",
        )


def replace_raw_data(
    connection: psycopg.Connection, folder: Path, progress: Step
) -> dict[str, int]:
    """Replace the raw tables by the files in `folder` in one transaction; return row counts.

    Raises
    ------
    RunnerError
        If a file has a row that does not fit, or none at all. The old tables are unchanged then.
    """
    rows = {}
    with connection.transaction():
        # Two at once would wait for each other's tables in turn; this lets them queue.
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))
        for table in TABLES:
            rows[table.name] = _replace(connection, table, folder / table.file, progress)
    return rows


def _replace(connection: psycopg.Connection, table: Table, path: Path, progress: Step) -> int:
    name = sql.Identifier(SCHEMA, table.name)
    # Cascade to dbt's staging views; dbt creates them again.
    connection.execute(sql.SQL("drop table if exists {} cascade").format(name))
    connection.execute(sql.SQL("create table {} ({})").format(name, sql.SQL(table.ddl)))
    try:
        count = _copy(connection, name, path, progress)
    except (errors.DataError, errors.IntegrityError) as error:
        raise _refusal(path, table, error) from error
    if count == 0:
        raise RunnerError(
            f"{path}: no rows below the header", hint=f"take {table.file} as it is in {DOWNLOAD}"
        )
    # dbt reads the table before the server's own statistics run would come round.
    connection.execute(sql.SQL("analyze {}").format(name))
    return count


def _copy(connection: psycopg.Connection, name: sql.Identifier, path: Path, progress: Step) -> int:
    statement = sql.SQL("copy {} from stdin (format csv, header, null '\\N', encoding 'utf8')")
    size = path.stat().st_size
    with path.open("rb") as file, connection.cursor() as cursor:
        with cursor.copy(statement.format(name)) as copy:
            while chunk := file.read(_CHUNK_BYTES):
                copy.write(chunk)
                progress.update(f"{path.name} {file.tell() / size:.0%}")
        return cursor.rowcount


def _refusal(path: Path, table: Table, error: psycopg.Error) -> RunnerError:
    """Return what PostgreSQL refused; its context names the line: `COPY ratings, line 3, …`."""
    line = re.search(r"line (\d+)", error.diag.context or "")
    reason = error.diag.message_detail or ""
    return RunnerError(
        f"{path}{f':{line[1]}' if line else ''}: {error.diag.message_primary}. {reason}".strip(),
        hint=f"correct that line, or take {table.file} as it is in {DOWNLOAD}",
    )


def _connect(settings: Settings) -> psycopg.Connection:
    postgres = settings.postgres
    try:
        return psycopg.connect(**postgres.conninfo, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise RunnerError(
            f"PostgreSQL at {postgres.host}:{postgres.port}: {error}",
            hint="run `runner up`, or set PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE",
        ) from error


def main() -> None:
    """Run the command line; an expected failure is one `error:` and one `hint:` line."""
    app = typer.Typer(add_completion=False)
    app.command()(load)
    try:
        app()
    except Exception as error:  # the known ones become two lines, the rest go on
        told = explain(error)
        if told is None:
            raise
        failure(told)
        sys.exit(1)


if __name__ == "__main__":
    main()
