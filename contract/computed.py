"""Columns of a model that are computed from its features, the request and the asked instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from contract.expressions import ASKED_AT, DTYPES, KINDS, ExpressionError, Kind, Result, kind_of

COMPUTED = "computed"
"""The status of such a value, beside those of `contract.view_layout`."""


@dataclass(frozen=True)
class ComputedColumn:
    """A column of the model that is computed for each row.

    Attributes
    ----------
    expression
        Nodes of `contract.expressions`. It may use features, the instant that the row is asked
        for, and computed columns before it.
    written
        What the recipe says, for readers.
    """

    name: Annotated[str, Field(min_length=1)]
    dtype: Result
    expression: list[Any]
    written: str = ""


def computed_problems(computed: Sequence[ComputedColumn], dtypes: Mapping[str, str]) -> list[str]:
    """Return what is wrong with computed columns beside other columns of these dtypes."""
    kinds: dict[str, Kind] = {name: KINDS[dtype] for name, dtype in dtypes.items()}
    kinds[ASKED_AT] = "time"
    problems = []
    for column in computed:
        try:
            kind = kind_of(column.expression, kinds)
        except ExpressionError as err:
            problems.append(f"computed.{column.name}: {err}")
            continue
        if column.name in kinds:
            problems.append(f"computed.{column.name}: appears twice")
        if DTYPES.get(kind) != column.dtype:
            problems.append(f"computed.{column.name}: is {kind}, not {column.dtype}")
        kinds[column.name] = kind
    return problems
