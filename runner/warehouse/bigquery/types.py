"""Which BigQuery types travel to Arrow as they are, and what the others are cast to.

The twin of `postgres.types`. BigQuery has one integer and one float, so a feature is never
widened but to a float or a time; NUMERIC becomes FLOAT64 unless declared a string, and is refused
when declared an integer; a DATETIME or DATE declared a timestamp is UTC; JSON and the rest become
their text.
"""

from __future__ import annotations

from typing import Any

from runner.errors import RunnerError
from runner.warehouse.join.join_parts import JoinColumn

TIMES = ("TIMESTAMP", "DATETIME", "DATE")
# The API's old names of some types.
_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_NUMERIC = ("NUMERIC", "BIGNUMERIC")
_NATIVE = {"BOOL", "BYTES", "DATE", "DATETIME", "FLOAT64", "INT64", "STRING", "TIME", "TIMESTAMP"}
# Types that `order by` takes and that sort as docs/point-in-time.md says.
_ORDERED = {*_NATIVE, *_NUMERIC}


def column_of(field: Any) -> JoinColumn:
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
        If the column is numeric and declared an integer.
    """
    if column.type in _NUMERIC and declared in {"INT32", "INT64", "INT32_LIST", "INT64_LIST"}:
        raise RunnerError(
            f"feature {column.name} is declared {declared} but its column is {column.type}",
            hint=f"cast {column.name} to int64 in the SQL of its dbt model",
        )
    if column.is_array:
        return expression
    if column.type in _NUMERIC:
        return f"cast({expression} as {'string' if declared == 'STRING' else 'float64'})"
    if column.type == "INT64" and declared in {"DOUBLE", "FLOAT"}:
        return f"cast({expression} as float64)"
    if column.type in {"DATETIME", "DATE"} and declared == "UNIX_TIMESTAMP":
        return utc(expression, column.type)
    return expression if column.type in _NATIVE else f"to_json_string({expression})"


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
