"""Which PostgreSQL types travel to Arrow as they are, and what the others are cast to.

The rules, shown by tests/integration/test_point_in_time_types.py:

- integers, floats, booleans, text, bytes, dates, times, timestamps and one-dimensional arrays of
  them keep their type; nullable integers stay integers;
- `numeric` becomes `double precision`, as in Feast's own type map, unless the feature is declared
  a string; declared an integer it is refused, because the cast would round silently;
- a `timestamp` without time zone is UTC;
- everything else (uuid, json, enum …) becomes its text.
"""

from __future__ import annotations

from datetime import timedelta

from psycopg.postgres import types as registry

from runner.errors import RunnerError
from runner.sql import quote
from runner.warehouse.join.join_parts import JoinColumn

_NATIVE = {
    "bool",
    "bytea",
    "date",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "varchar",
}
TIMES = ("timestamptz", "timestamp", "date")
_INTEGERS = ("int2", "int4", "int8")
# Types with an order of their own that is the same in every database.
_ORDERED = {
    "bool",
    "bytea",
    "date",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "interval",
    "numeric",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
}
# Feast's declared types (ValueType names, "_LIST" taken off) in PostgreSQL's names.
_DECLARED = {
    "BOOL": "bool",
    "BYTES": "bytea",
    "DECIMAL": "text",
    "DOUBLE": "float8",
    "FLOAT": "float4",
    "INT32": "int4",
    "INT64": "int8",
    "JSON": "text",
    "MAP": "text",
    "STRING": "text",
    "UNIX_TIMESTAMP": "timestamptz",
    "UUID": "text",
}
# Casts from what the column is to what the feature is declared as.
_WIDENINGS = {
    *((small, "int4") for small in ("int2",)),
    *((small, "int8") for small in ("int2", "int4")),
    *((number, "float8") for number in (*_INTEGERS, "float4")),
    *(("numeric", declared) for declared in ("float4", "float8", "text")),
    ("date", "timestamptz"),
    ("timestamp", "timestamptz"),
}


def column_of(name: str, oid: int) -> JoinColumn:
    """Return the column for a type's object id; an unknown type is called `unknown`."""
    info = registry.get(oid)
    if info is None:
        return JoinColumn(name, "unknown")
    return JoinColumn(name, info.name, is_array=info.oid != oid)


def exported(expression: str, column: JoinColumn, declared: str | None = None) -> str:
    """Return `expression`, a value of `column`, in the form that travels to Arrow.

    Parameters
    ----------
    declared
        Name of the feature's Feast type (`INT64`, `DOUBLE_LIST` …); None: whatever the column is.

    Raises
    ------
    RunnerError
        If the column is numeric and declared an integer.
    """
    wanted = _DECLARED.get(declared.removesuffix("_LIST")) if declared else None
    if column.type == "numeric" and wanted in _INTEGERS:
        raise RunnerError(
            f"feature {column.name} is declared {declared} but its column is numeric",
            hint=f"cast {column.name} to bigint in the SQL of its dbt model",
        )
    target = _target(column.type, wanted)
    if target == column.type:
        return expression
    if target == "timestamptz" and not column.is_array:
        return utc(expression, column.type)
    return f"{expression}::{target}{'[]' if column.is_array else ''}"


def output(expression: str, column: JoinColumn, declared: str | None, name: str) -> str:
    """Return a select item: `expression` in the form that travels to Arrow, called `name`."""
    return f"{exported(expression, column, declared)} as {quote(name)}"


def _target(actual: str, wanted: str | None) -> str:
    if wanted and (actual, wanted) in _WIDENINGS:
        return wanted
    if actual == "numeric":
        return "float8"
    return actual if actual in _NATIVE else "text"


def family(column: JoinColumn) -> str:
    """Return the name of the types that an index on `column` can be compared with."""
    if column.type in _INTEGERS:
        return "integer"
    return "text" if column.type in {"text", "varchar"} else column.type


def utc(expression: str, type_name: str) -> str:
    """Return the instant that `expression` names: without a time zone it is UTC."""
    if type_name == "timestamptz":
        return expression
    naive = expression if type_name == "timestamp" else f"{expression}::timestamp"
    return f"{naive} at time zone 'UTC'"


def as_type_of(instant: str, type_name: str) -> str:
    """Return `instant` (timestamptz) such that an index on a column of `type_name` serves it.

    Converting the spine's side, not the column, keeps the comparison inside the index.
    """
    return instant if type_name == "timestamptz" else f"({instant} at time zone 'UTC')"


def interval(duration: timedelta) -> str:
    """Return an interval in seconds: one in days has 23 or 25 hours where the clocks change."""
    seconds, fraction = divmod(duration // timedelta(microseconds=1), 1_000_000)
    text = f"{seconds}.{fraction:06d}" if fraction else f"{seconds}"
    return f"interval '{text} seconds'"


def comparable(expression: str, column: JoinColumn) -> str:
    """Return `expression` such that it sorts alike in every database.

    Text by code point, not by the database's collation; types without an order (json, point …) by
    their text.
    """
    if column.type in _ORDERED:
        return expression
    return f'{expression}::text{"[]" if column.is_array else ""} collate "C"'
