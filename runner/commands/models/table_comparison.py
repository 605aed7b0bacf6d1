"""Two tables of training rows held against each other: which rows and columns differ, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from runner.errors import RunnerError
from runner.feature_store.nullable_types import NULLABLE
from runner.project.manifest import EVENT_TIMESTAMP
from runner.wording import counted

RowNumbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class TableComparison:
    """How the rows of now differ from the recorded ones.

    Attributes
    ----------
    rows
        How many rows were recorded.
    new, later
        Rows that only now has, and how many of these are later than every recorded one.
    gone
        Recorded rows that now lacks.
    changed_rows
        Rows of both with another value in any column that both have.
    changed
        Column → how many of these rows it differs in; columns that do not differ are left out.
    retyped
        Column → its type then and now; its values are not compared.
    columns_gone, columns_new
        Columns that only one of the tables has.
    """

    rows: int
    new: int
    later: int
    gone: int
    changed_rows: int
    changed: Mapping[str, int]
    retyped: Mapping[str, tuple[str, str]]
    columns_gone: tuple[str, ...]
    columns_new: tuple[str, ...]

    @property
    def account(self) -> list[str]:
        """What differs and what does not, a sentence each."""
        said = []
        if self.new:
            said.append(f"the spine has {counted(self.new, 'more row')} now, {self._how_late()}")
        if self.gone:
            said.append(f"{self.gone:,} of the {counted(self.rows, 'recorded row')} are gone")
        said += [f"column {name} is gone" for name in self.columns_gone]
        said += [f"column {name} is new" for name in self.columns_new]
        said += [f"column {name} is {b} now, it was {a}" for name, (a, b) in self.retyped.items()]
        left = self.rows - self.gone
        of = "recorded rows" if not self.gone else "recorded rows that are left"
        if self.changed_rows:
            columns = ", ".join(f"{name} in {n:,}" for name, n in self.changed.items())
            said.append(f"{self.changed_rows:,} of the {left:,} {of} changed: {columns}")
        elif self.columns_gone or self.retyped:
            said.append(f"the {left:,} {of} are unchanged in every other column")
        elif left:
            said.append(f"the {left:,} {of} are all there unchanged")
        return said

    def _how_late(self) -> str:
        if self.later == self.new:
            return "later than every recorded one"
        some = f"{self.later:,}" if self.later else "none"
        return f"{some} of them later than every recorded one"


def compare_tables(then: pa.Table, now: pa.Table, keys: Sequence[str]) -> TableComparison:
    """Return how `now` differs from `then`; rows belong together by keys and `event_timestamp`.

    Rows that share these are matched by their order, which is the spine query's. The order of
    all rows, and of columns, makes no difference.

    Raises
    ------
    RunnerError
        If `now` has other keys, so that no row can be found again.
    """
    keys = [*keys, EVENT_TIMESTAMP]
    _refuse_other_keys(then.select(keys).schema, now.schema)
    i, j = _matches(then.select(keys), now.select(keys))
    shared = [name for name in then.column_names if name in now.column_names and name not in keys]
    types = {name: (str(then[name].type), str(now[name].type)) for name in shared}
    retyped = {name: pair for name, pair in types.items() if pair[0] != pair[1]}
    masks = {
        name: _unequal(then[name].take(pa.array(i)), now[name].take(pa.array(j)))
        for name in shared
        if name not in retyped
    }
    is_new = np.ones(now.num_rows, dtype=np.bool_)
    is_new[j] = False
    return TableComparison(
        rows=then.num_rows,
        new=int(is_new.sum()),
        later=_later(now[EVENT_TIMESTAMP].filter(pa.array(is_new)), then[EVENT_TIMESTAMP]),
        gone=then.num_rows - len(i),
        changed_rows=int(np.logical_or.reduce(list(masks.values())).sum()) if masks else 0,
        changed={name: int(mask.sum()) for name, mask in masks.items() if mask.any()},
        retyped=retyped,
        columns_gone=tuple(name for name in then.column_names if name not in now.column_names),
        columns_new=tuple(name for name in now.column_names if name not in then.column_names),
    )


def _refuse_other_keys(then: pa.Schema, now: pa.Schema) -> None:
    for field in then:
        type_now = now.field(field.name).type if field.name in now.names else "not there"
        if type_now != field.type:
            raise RunnerError(
                f"the spine's {field.name} was {field.type} and is {type_now} now, so no recorded "
                "row can be found again",
                hint="compare at the git commit of the run",
            )


def _matches(then: pa.Table, now: pa.Table) -> tuple[RowNumbers, RowNumbers]:
    """Return the row numbers, in `then` and in `now`, of the rows that both have."""
    frames = []
    for table in (then, now):
        frame: pd.DataFrame = table.to_pandas(types_mapper=NULLABLE.get)
        frame.columns = pd.RangeIndex(frame.shape[1])
        occurrence = frame.groupby(list(frame.columns), sort=False, dropna=False).cumcount()
        frames.append(frame.assign(occurrence=occurrence, row=np.arange(len(frame))))
    on: list[Any] = [*range(then.num_columns), "occurrence"]
    both = frames[0].merge(frames[1], on=on, suffixes=("_then", "_now"))
    return both["row_then"].to_numpy(np.intp), both["row_now"].to_numpy(np.intp)


def _unequal(a: pa.ChunkedArray, b: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return where two columns of one type differ; null equals null and NaN equals NaN."""
    differ = pc.fill_null(pc.not_equal(a, b), False)
    if pa.types.is_floating(a.type):
        both_nan = pc.fill_null(pc.and_(pc.is_nan(a), pc.is_nan(b)), False)
        differ = pc.and_not(differ, both_nan)
    differ = pc.or_(differ, pc.xor(pc.is_null(a), pc.is_null(b)))
    return np.asarray(differ.to_numpy(), dtype=np.bool_)


def _later(new: pa.ChunkedArray, recorded: pa.ChunkedArray) -> int:
    last = pc.max(recorded)
    return 0 if not last.is_valid else int(pc.sum(pc.greater(new, last)).as_py() or 0)
