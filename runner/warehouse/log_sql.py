"""The parts of SQL over the table of predictions, in each warehouse's dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Protocol

from runner.errors import RunnerError
from runner.sql import quote, quote_bigquery, text_bigquery, text_postgres

Cell = str | int | float | date | None


class NoTableError(RunnerError):
    """A table is not in the warehouse."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            problem,
            hint="`runner collect` creates the table of predictions, `dbt build` outcome models",
        )


def no_column(problem: str) -> RunnerError:
    """Return the error for a table that lacks a column."""
    return RunnerError(
        problem,
        hint="run `runner collect`, which adds new columns to the table of predictions",
    )


class LogSql(Protocol):
    """One warehouse's SQL."""

    @property
    def table(self) -> str:
        """The table of predictions, quoted."""

    def literal(self, text: str) -> str:
        """Return a string literal."""

    def json_text(self, column: str, name: str) -> str:
        """Return the member `name` of a JSON column as text; null if there is none."""

    def number(self, text: str) -> str:
        """Return text as a float."""

    def bucket(self, number: str, edges: Sequence[float]) -> str:
        """Return how many of the sorted `edges` a number reaches."""

    def instant(self, iso: str) -> str:
        """Return a timestamp literal."""

    def json_instant(self, text: str) -> str:
        """Return text in ISO 8601 as a timestamp."""

    def name(self, column: str) -> str:
        """Return a column's name, quoted."""

    def day(self, instant: str) -> str:
        """Return the day of an instant in UTC, as a date."""

    def seconds(self, later: str, earlier: str) -> str:
        """Return how many seconds lie between two instants."""

    def json(self, column: str) -> str:
        """Return a JSON column as text."""

    def iso(self, instant: str) -> str:
        """Return an instant as text in ISO 8601, in UTC."""

    def text(self, value: str) -> str:
        """Return a value as text."""

    def hash(self, texts: Sequence[str]) -> str:
        """Return a value that orders rows at random, but always in the same order."""

    def one_row_per_value(self, source: str, kept: str, values: Sequence[str], name: str) -> str:
        """Return a query that repeats each row of `source`, once for each of `values`.

        Parameters
        ----------
        kept
            The columns of `source` to keep.
        values, name
            SQL of one more column, and what it is called.
        """


class LogReader(Protocol):
    """Runs queries over the table of predictions; changes nothing."""

    @property
    def sql(self) -> LogSql:
        """The warehouse's SQL."""

    def rows(self, query: str) -> Sequence[Sequence[Cell]]:
        """Return the rows of a query's answer."""


class PostgresLogSql:
    """PostgreSQL's."""

    def __init__(self, table: str) -> None:
        self.table = table

    def literal(self, text: str) -> str:
        """See `LogSql`."""
        return text_postgres(text)

    def json_text(self, column: str, name: str) -> str:
        """See `LogSql`."""
        return f"({column} ->> {text_postgres(name)})"

    def number(self, text: str) -> str:
        """See `LogSql`."""
        return f"cast({text} as double precision)"

    def bucket(self, number: str, edges: Sequence[float]) -> str:
        """See `LogSql`."""
        return f"width_bucket({number}, array[{_floats(edges)}]::double precision[])"

    def instant(self, iso: str) -> str:
        """See `LogSql`."""
        return f"timestamptz {text_postgres(iso)}"

    def json_instant(self, text: str) -> str:
        """See `LogSql`."""
        return f"cast({text} as timestamptz)"

    def name(self, column: str) -> str:
        """See `LogSql`."""
        return quote(column)

    def day(self, instant: str) -> str:
        """See `LogSql`."""
        return f"cast({instant} at time zone 'UTC' as date)"

    def seconds(self, later: str, earlier: str) -> str:
        """See `LogSql`."""
        return f"cast(extract(epoch from {later} - {earlier}) as double precision)"

    def json(self, column: str) -> str:
        """See `LogSql`."""
        return f"cast({column} as text)"

    def iso(self, instant: str) -> str:
        """See `LogSql`."""
        return f"to_char({instant} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')"

    def text(self, value: str) -> str:
        """See `LogSql`."""
        return f"cast({value} as text)"

    def hash(self, texts: Sequence[str]) -> str:
        """See `LogSql`."""
        return f"md5({' || '.join(texts)})"

    def one_row_per_value(self, source: str, kept: str, values: Sequence[str], name: str) -> str:
        """See `LogSql`."""
        # A lateral `values` takes four times as long: it prepares its expressions for each row.
        # `offset` keeps the planner from merging the queries. Merged, it expects one group per
        # instant and does not group in parallel. A plain `offset 0` has a cast, and prevents
        # parallel grouping too.
        return (
            f"select {kept}, unnest(each_value) as {name}\nfrom (\n"
            f"select {kept}, array[\n    {_listed(values)}\n] as each_value\n"
            f"from {source} offset bigint '0'\n) as with_values"
        )


class BigQueryLogSql:
    """BigQuery's."""

    def __init__(self, table: str) -> None:
        self.table = table

    def literal(self, text: str) -> str:
        """See `LogSql`."""
        return text_bigquery(text)

    def json_text(self, column: str, name: str) -> str:
        """See `LogSql`."""
        path = f"$.{json.dumps(name, ensure_ascii=False)}"
        return f"json_value({column}, {text_bigquery(path)})"

    def number(self, text: str) -> str:
        """See `LogSql`."""
        return f"cast({text} as float64)"

    def bucket(self, number: str, edges: Sequence[float]) -> str:
        """See `LogSql`."""
        return f"range_bucket({number}, [{_floats(edges)}])"

    def instant(self, iso: str) -> str:
        """See `LogSql`."""
        return f"timestamp {text_bigquery(iso)}"

    def json_instant(self, text: str) -> str:
        """See `LogSql`."""
        return f"cast({text} as timestamp)"

    def name(self, column: str) -> str:
        """See `LogSql`."""
        return quote_bigquery(column)

    def day(self, instant: str) -> str:
        """See `LogSql`."""
        return f"date({instant}, 'UTC')"

    def seconds(self, later: str, earlier: str) -> str:
        """See `LogSql`."""
        return f"timestamp_diff({later}, {earlier}, microsecond) / 1e6"

    def json(self, column: str) -> str:
        """See `LogSql`."""
        return f"to_json_string({column})"

    def iso(self, instant: str) -> str:
        """See `LogSql`."""
        return f"format_timestamp('%Y-%m-%dT%H:%M:%E6S+00:00', {instant}, 'UTC')"

    def text(self, value: str) -> str:
        """See `LogSql`."""
        return f"cast({value} as string)"

    def hash(self, texts: Sequence[str]) -> str:
        """See `LogSql`."""
        return f"to_hex(md5(concat({', '.join(texts)})))"

    def one_row_per_value(self, source: str, kept: str, values: Sequence[str], name: str) -> str:
        """See `LogSql`."""
        return (
            f"select {kept}, {name}\nfrom (\n"
            f"select {kept}, [\n    {_listed(values)}\n] as each_value\n"
            f"from {source}\n) as with_values\ncross join unnest(each_value) as {name}"
        )


def _floats(numbers: Sequence[float]) -> str:
    return ", ".join(repr(number) for number in numbers)


def _listed(values: Sequence[str]) -> str:
    return ",\n    ".join(values)
