"""Which PostgreSQL types travel to Arrow as they are, and what the others are cast to.

The rules, shown by tests/integration/test_point_in_time_types.py:

- integers, floats, booleans, text, bytes, dates, times, timestamps and one-dimensional arrays of
  them keep their type; nullable integers stay integers;
- a feature is cast to its declared type where nothing is lost; what is declared narrower, or as
  another kind, than its column is refused;
- `numeric` becomes `double precision`, as in Feast's own type map, unless the feature is declared
  a string; in a spine, only a number of more digits than a double holds is refused;
- a `timestamp` without time zone is UTC;
- everything else (uuid, json, enum …) becomes its text;
- an array of arrays is refused: Arrow's lists have one dimension.
"""

from __future__ import annotations

from datetime import timedelta

from psycopg.postgres import types as registry

from runner.errors import RunnerError
from runner.sql import quote, text_postgres
from runner.warehouse.join.join_parts import JoinColumn
from runner.warehouse.postgres.refusals import refuse_if

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
# What keys of different types can be compared as.
_NUMBERS = {*_INTEGERS, "float4", "float8", "numeric"}
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
# Families that a text is never compared with: the user casts one of the two.
_BUILT_IN = {*_NATIVE, *_ORDERED, "integer"}
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
# What a column may be cast to by its declaration, beside text. Nothing is lost but a numeric's
# digits beyond a double's.
_WIDENINGS = {
    *((small, "int4") for small in ("int2",)),
    *((small, "int8") for small in ("int2", "int4")),
    *((number, "float8") for number in (*_INTEGERS, "float4")),
    *(("numeric", declared) for declared in ("float4", "float8")),
    ("date", "timestamptz"),
    ("timestamp", "timestamptz"),
}


_SQL_NAMES = {
    "bool": "boolean",
    "float4": "real",
    "float8": "double precision",
    "int4": "integer",
    "int8": "bigint",
}


def column_of(name: str, oid: int) -> JoinColumn:
    """Return the column for the object id of a built-in type; another is called `unknown`."""
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
        If the column cannot be what is declared without loss.
    """
    wanted = _DECLARED.get(declared.removesuffix("_LIST")) if declared else None
    if wanted and not _fits(column, wanted, is_list=(declared or "").endswith("_LIST")):
        sql_name = _SQL_NAMES.get(wanted, wanted)
        raise RunnerError(
            f"feature {column.name} is declared {declared} but its column is "
            f"{column.type}{'[]' if column.is_array else ''}",
            hint=f"write `cast({column.name} as {sql_name})` in the SQL of its dbt model, or "
            "correct its data_type and run `dbt parse`",
        )
    target = _target(column.type, wanted)
    value = expression if target == column.type else _cast(expression, column, target)
    if not column.is_array:
        return value
    return refuse_if(
        f"array_ndims({expression}) > 1",
        value,
        f"{text_postgres(f'column {column.name} holds an array with dimensions: ')} || "
        f"array_ndims({expression})",
        "unnest it in the SQL: a list has one dimension",
    )


def exported_type(column: JoinColumn, declared: str | None) -> str | None:
    """Return the type of what `exported` returns; None for an array."""
    wanted = _DECLARED.get(declared.removesuffix("_LIST")) if declared else None
    return None if column.is_array else _target(column.type, wanted)


def _fits(column: JoinColumn, wanted: str, *, is_list: bool) -> bool:
    if wanted == "text":
        return True
    if column.is_array != is_list:
        return False
    return column.type == wanted or (column.type, wanted) in _WIDENINGS


def _cast(expression: str, column: JoinColumn, target: str) -> str:
    if target == "timestamptz" and not column.is_array:
        return utc(expression, column.type)
    return f"{expression}::{target}{'[]' if column.is_array else ''}"


def output(expression: str, column: JoinColumn) -> str:
    """Return a select item: `expression` in the form that travels to Arrow, by its own name."""
    return f"{exported(expression, column)} as {quote(column.name)}"


def spine_output(expression: str, column: JoinColumn) -> str:
    """Return the same for a column of a spine, which no cast may change."""
    if column.type != "numeric":
        return output(expression, column)
    arrays = "[]" if column.is_array else ""
    value = refuse_if(
        f"{expression}::float8{arrays}::text{arrays}::numeric{arrays} <> {expression}",
        exported(expression, column),
        f"{text_postgres(f'column {column.name} of the spine is numeric, and a double precision ')}"
        f" || 'does not hold all digits of ' || {expression}::text",
        f"cast {column.name} to bigint, double precision or text in the spine's SQL",
    )
    return f"{value} as {quote(column.name)}"


def _target(actual: str, wanted: str | None) -> str:
    if wanted == "text" or (actual, wanted) in _WIDENINGS:
        return str(wanted)
    if actual == "numeric":
        return "float8"
    return actual if actual in _NATIVE else "text"


def family(column: JoinColumn) -> str:
    """Return the name of the types that an index on `column` can be compared with."""
    if column.type in _INTEGERS:
        return "integer"
    return "text" if column.type in {"text", "varchar"} else column.type


def whole_second(expression: str, column: JoinColumn) -> str:
    """Return `expression`, a join key: a time with a fraction of a second ends the query.

    Feast's online store keeps a key's whole seconds: such keys would run together there.
    """
    if column.type not in {"timestamp", "timestamptz"} or column.is_array:
        return expression
    return refuse_if(
        f"date_trunc('second', {expression}) <> {expression}",
        expression,
        f"{text_postgres(f'join key {column.name} has a fraction of a second: ')} || "
        f"{expression}::text",
        f"date_trunc('second', {column.name}) in the SQL: the online store's keys are whole "
        "seconds",
    )


def uploaded_type(key: JoinColumn) -> str:
    """Return the type that a DataFrame's key is cast to before it is compared with `key`.

    Wider than a smallint, and an enum's text: what the table cannot hold finds nothing.
    """
    kind = family(key)
    if kind == "integer":
        return "int8"
    return key.type if key.type in _BUILT_IN else "text"


def comparison(left: JoinColumn, right: JoinColumn) -> str:
    """Return how two keys are compared: by an `index`, by `value`, by `text`; empty: not at all."""
    one, other = family(left), family(right)
    if left.is_array or right.is_array:
        return "value" if left.type == right.type and left.is_array == right.is_array else ""
    if one == other:
        return "index"
    if {one, other} <= {*_NUMBERS, "integer"} or {one, other} <= set(TIMES):
        return "value"
    # An enum, a domain's base type and so on, beside a text.
    return "" if ({one, other} - {"text"}) & _BUILT_IN else "text"


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
