"""Which BigQuery types travel to Arrow as they are, and what the others are cast to.

The twin of `postgres.types`. BigQuery has one integer and one float, so a feature is never
widened but to a float or a time; NUMERIC becomes FLOAT64 unless declared a string; a DATETIME or
DATE declared a timestamp is UTC; JSON and the rest become their text. What is declared another kind
than its column is refused.
"""

from __future__ import annotations

from datetime import datetime

from google.cloud import bigquery

from runner.errors import RunnerError
from runner.sql import text_bigquery
from runner.warehouse.join.join_parts import JoinColumn
from runner.warehouse.join.refusals import MARK

TIMES = ("TIMESTAMP", "DATETIME", "DATE")
# The API's old names of some types.
_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_NUMERIC = ("NUMERIC", "BIGNUMERIC")
_NATIVE = {"BOOL", "BYTES", "DATE", "DATETIME", "FLOAT64", "INT64", "STRING", "TIME", "TIMESTAMP"}
# Feast's declared types, "_LIST" taken off; any other is a text.
_DECLARED = {
    "BOOL": "BOOL",
    "BYTES": "BYTES",
    "DOUBLE": "FLOAT64",
    "FLOAT": "FLOAT64",
    "INT32": "INT64",
    "INT64": "INT64",
    "UNIX_TIMESTAMP": "TIMESTAMP",
}
_WIDENINGS = {
    *((number, "FLOAT64") for number in ("INT64", *_NUMERIC)),
    *((day, "TIMESTAMP") for day in ("DATE", "DATETIME")),
}
# Types that `order by` takes and that sort as docs/point-in-time.md says.
_ORDERED = {*_NATIVE, *_NUMERIC}


def column_of(field: bigquery.SchemaField) -> JoinColumn:
    """Return the column that a SchemaField describes, by its GoogleSQL type name."""
    name = _NAMES.get(field.field_type, field.field_type)
    return JoinColumn(field.name, name, is_array=field.mode == "REPEATED")


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
    wanted = _DECLARED.get(declared.removesuffix("_LIST"), "STRING") if declared else None
    if wanted and not _fits(column, wanted, is_list=(declared or "").endswith("_LIST")):
        raise RunnerError(
            f"feature {column.name} is declared {declared} but its column is "
            f"{f'ARRAY<{column.type}>' if column.is_array else column.type}",
            hint=f"cast {column.name} to {wanted.lower()} in the SQL of its dbt model, or correct "
            "its data_type and run `dbt parse`",
        )
    if column.is_array:
        return expression
    if wanted in {None, column.type} and column.type in _NATIVE:
        return expression
    if column.type in _NUMERIC:
        return f"cast({expression} as {'string' if wanted == 'STRING' else 'float64'})"
    if wanted == "TIMESTAMP":
        return utc(expression, column.type)
    if column.type in _NATIVE:
        return f"cast({expression} as {str(wanted).lower()})"
    return f"to_json_string({expression})"


def _fits(column: JoinColumn, wanted: str, *, is_list: bool) -> bool:
    if wanted == "STRING":
        return True
    if column.is_array != is_list:
        return False
    return column.type == wanted or (column.type, wanted) in _WIDENINGS


def spine_output(expression: str, column: JoinColumn) -> str:
    """Return the same for a column of a spine, which no cast may change."""
    if column.type not in _NUMERIC or column.is_array:
        return exported(expression, column)
    kind = column.type.lower()
    refused = _refused(
        f"column {column.name} of the spine is {kind}, and a float64 does not hold all digits of ",
        expression,
        f"cast {column.name} to int64, float64 or string in the spine's SQL",
    )
    exact = f"cast(cast(cast({expression} as float64) as string) as {kind}) = {expression}"
    return f"if({exact} or {expression} is null, {exported(expression, column)}, {refused})"


def whole_second(expression: str, column: JoinColumn) -> str:
    """Return `expression`, a join key: a time with a fraction of a second ends the query.

    Feast's online store keeps a key's whole seconds: such keys would run together there.
    """
    if column.type != "TIMESTAMP":
        return expression
    refused = _refused(
        f"join key {column.name} has a fraction of a second: ",
        expression,
        f"timestamp_trunc({column.name}, second) in the SQL: the online store's keys are whole "
        "seconds",
    )
    return f"if(timestamp_trunc({expression}, second) != {expression}, {refused}, {expression})"


def _refused(message: str, value: str, hint: str) -> str:
    """Return the SQL that ends the query with `message`, the `value` and a hint."""
    texts = text_bigquery(MARK + message), text_bigquery(MARK + hint + MARK)
    return f"error(concat({texts[0]}, cast({value} as string), {texts[1]}))"


def comparison(left: JoinColumn, right: JoinColumn) -> str:
    """Return how two keys are compared: by `value`; empty: not at all."""
    numbers = {"INT64", "FLOAT64", *_NUMERIC}
    alike = left.type == right.type or {left.type, right.type} <= numbers
    return "value" if alike and not (left.is_array or right.is_array) else ""


def family(column: JoinColumn) -> str:
    """Return the kind of a key's type: `integer`, `text`, or the type itself."""
    return {"INT64": "integer", "STRING": "text"}.get(column.type, column.type)


def utc(expression: str, type_name: str) -> str:
    """Return the instant that `expression` names: without a time zone it is UTC."""
    return expression if type_name == "TIMESTAMP" else f"timestamp({expression})"


def order_of(expression: str, column: JoinColumn) -> list[str]:
    """Return what to sort by so that NULL comes first and NaN last: BigQuery's NaN is smallest."""
    if column.is_array or column.type not in _ORDERED:
        return [f"to_json_string({expression})"]
    return [f"is_nan({expression})", expression] if column.type == "FLOAT64" else [expression]


def literal(time: datetime) -> str:
    """Return `time`, which has a zone, as BigQuery's SQL writes an instant."""
    return f"timestamp '{time.isoformat(sep=' ')}'"
