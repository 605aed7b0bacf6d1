"""Where `runner predict` writes: a file that appears when it is complete, or a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from contract.explainer import Explainer
from runner.commands.predictions.explanation_output import (
    ExplanationColumns,
    ExplanationOutput,
    ExplanationText,
)
from runner.errors import RunnerError
from runner.settings import Settings
from runner.warehouse.open_scored import open_scored
from runner.warehouse.scored_table import AT, DAY, MODEL, VERSION, ScoredBy, parse_table

Write = Callable[[pa.Table], None]


class Output(Protocol):
    """Where rows with their predictions are written; `str` gives its name."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns that it has besides those of the rows."""

    def explanations(self, explainer: Explainer) -> ExplanationOutput:
        """Return how explanations are written there."""

    def require_usable(self) -> None:
        """Raise if nothing can be written there, before anything is computed."""

    def open(
        self, settings: Settings, schema: pa.Schema, by: ScoredBy
    ) -> AbstractContextManager[Write]:
        """Give a function that writes rows; they become visible once all are written."""


@dataclass(frozen=True)
class OutputFile:
    """A .parquet or .csv file; replaced if it exists."""

    path: Path
    columns: ClassVar[Sequence[str]] = ()

    def __str__(self) -> str:
        """Return its path."""
        return str(self.path)

    def explanations(self, explainer: Explainer) -> ExplanationOutput:
        """See `Output`."""
        return ExplanationColumns(explainer)

    def require_usable(self) -> None:
        """See `Output`."""
        if self.path.suffix not in {".parquet", ".csv"} or not self.path.parent.is_dir():
            raise RunnerError(
                f"{self.path}: not a .parquet or .csv file in a folder that exists",
                hint="name another --output",
            )

    @contextmanager
    def open(self, settings: Settings, schema: pa.Schema, by: ScoredBy) -> Iterator[Write]:  # noqa: ARG002  (of `Output`)
        """See `Output`."""
        part = self.path.with_name(f".{self.path.name}.part")
        is_text = self.path.suffix == ".csv"
        kind = pyarrow.csv.CSVWriter if is_text else pq.ParquetWriter
        stored = _text_schema(schema) if is_text else schema
        try:
            with kind(part, stored) as writer:
                yield lambda rows: writer.write_table(rows.cast(stored) if is_text else rows)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)


def _text_schema(schema: pa.Schema) -> pa.Schema:
    """Return the types in which pyarrow.csv writes the columns.

    Raises
    ------
    RunnerError
        If a column cannot be written as text.
    """
    for index, field in enumerate(schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(fits(kind) for fits in _TEXT):
            raise RunnerError(
                f"column {field.name} is {field.type}, which cannot be written into a .csv file",
                hint=f"drop {field.name} from the source, or write a .parquet file",
            )
        if pa.types.is_string_view(kind):
            schema = schema.set(index, field.with_type(pa.string()))
    return schema


_TEXT: Sequence[Callable[[pa.DataType], bool]] = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
)


@dataclass(frozen=True)
class OutputTable:
    """A table `schema.table`; what the version wrote there the same day is replaced."""

    name: str
    columns: ClassVar[Sequence[str]] = (DAY, MODEL, VERSION, AT)

    def __str__(self) -> str:
        """Return its name."""
        return self.name

    def explanations(self, explainer: Explainer) -> ExplanationOutput:
        """See `Output`. One column, since PostgreSQL cuts off names of more than 63 bytes."""
        return ExplanationText(explainer)

    def require_usable(self) -> None:
        """See `Output`."""
        parse_table(self.name)

    @contextmanager
    def open(self, settings: Settings, schema: pa.Schema, by: ScoredBy) -> Iterator[Write]:
        """See `Output`."""
        columns = by.with_rows(schema.empty_table()).schema
        with open_scored(settings, parse_table(self.name), columns, by) as scored:
            yield lambda rows: scored.write(by.with_rows(rows))
