"""The warehouse's column types, in the names the online store, the serving bundle and docs use."""

from __future__ import annotations

from collections.abc import Mapping

from contract.feast_format import NUMBER_KEYS
from runner.project.manifest_file import NodeColumn

DTYPES: Mapping[str, str] = {
    "bigint": "int64",
    "int8": "int64",
    "int64": "int64",
    "integer": "int32",
    "int": "int32",
    "int4": "int32",
    "smallint": "int32",
    "double precision": "float64",
    "float8": "float64",
    "float64": "float64",
    "float": "float64",
    "numeric": "float64",
    "decimal": "float64",
    "bignumeric": "float64",
    "real": "float32",
    "float4": "float32",
    "text": "string",
    "string": "string",
    "varchar": "string",
    "character varying": "string",
    "boolean": "bool",
    "bool": "bool",
    "timestamp with time zone": "timestamp",
    "timestamptz": "timestamp",
    "timestamp": "timestamp",
}
"""By PostgreSQL's and BigQuery's name, without length or precision."""

KEY_DTYPES = frozenset({*NUMBER_KEYS, "string"})
"""What a join key may be. Not a float: above 2^53 two ids would be one."""


_JSON_TYPES = frozenset({"json", "jsonb"})


def declared_type(column: NodeColumn) -> str:
    """Return the column's `data_type` in lower case, such as `numeric(12, 2)`; `missing` if so."""
    return (column.get("data_type") or "").strip().lower() or "missing"


def dtype_of(column: NodeColumn) -> str | None:
    """Return the column's type; None if Feast cannot hold it."""
    return DTYPES.get(declared_type(column).partition("(")[0].strip())


def is_json(column: NodeColumn) -> bool:
    """Return whether the column holds JSON, which is no feature, key or label."""
    return declared_type(column) in _JSON_TYPES
