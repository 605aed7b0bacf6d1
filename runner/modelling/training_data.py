"""The training rows: joined, checked, turned into model inputs and split by time."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from contract.computed import ComputedColumn
from contract.values import CAP_IT
from runner.errors import RunnerError
from runner.feature_store.recipe_features import RecipeFeature, RequestInput, request_inputs
from runner.modelling.classes import (
    PERIODS,
    Labels,
    check_classes,
    tuning_folds,
)
from runner.modelling.model_inputs import (
    InputColumn,
    model_columns,
    model_inputs,
    too_large,
    with_computed,
)
from runner.modelling.split import TimeSplit, TooFewRowsError, split_by_time
from runner.project.manifest import EVENT_TIMESTAMP, Spine

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from runner.recipes.recipe import Recipe


_STRING_BYTES = 2**31 - 1  # all that a column of type string holds in one chunk


class Rows(NamedTuple):
    """Model inputs of shape (n_rows, n_features) and labels of shape (n_rows,)."""

    X: pd.DataFrame
    y: Labels


@dataclass(frozen=True)
class TrainingData:
    """All training rows and which of them train and test.

    Attributes
    ----------
    table
        The spine with its features, as `training_table` returns it.
    calibration, validation
        None where the recipe neither calibrates nor chooses a decision threshold.
    """

    table: pa.Table
    train: Rows
    test: Rows
    split: TimeSplit
    calibration: Rows | None = None
    validation: Rows | None = None

    @property
    def parts(self) -> dict[str, Rows]:
        """The rows by what they are for, in the order of time."""
        parts = {
            "training": self.train,
            "calibration": self.calibration,
            "validation": self.validation,
            "test": self.test,
        }
        return {name: rows for name, rows in parts.items() if rows is not None}


def load_training_data(
    table: pa.Table,
    recipe: Recipe,
    spine: Spine,
    features: list[RecipeFeature],
    computed: Sequence[ComputedColumn],
) -> TrainingData:
    """Return the recipe's training rows, checked, computed and split.

    Parameters
    ----------
    table
        The joined rows, as `runner.feature_store.store.training_table` returns them.
    computed
        The recipe's computed columns; they follow the features in the table.

    Raises
    ------
    RunnerError
        As `split_labels`, for the spine may have been built again meanwhile; or if a feature has a
        number that float32 cannot hold, in whichever row.
    """
    split_labels(recipe, spine, table)
    inputs: list[RecipeFeature | RequestInput] = [*features, *request_inputs(recipe, spine)]
    _refuse_too_large(recipe, table, inputs)
    table, columns = with_computed(table, inputs, computed), model_columns(inputs, computed)
    return split_rows(recipe, table, columns, label_window=spine.labels[recipe.label])


def split_labels(recipe: Recipe, spine: Spine, rows: pa.Table) -> dict[str, Labels]:
    """Return the labels of each part of the recipe's split, in the order of time.

    Parameters
    ----------
    rows
        `event_timestamp` (UTC) and the label of every row of the spine.

    Raises
    ------
    RunnerError
        If the spine is empty, a label or timestamp is null, the split leaves a part too few rows, a
        classification label has one class only, or not the classes that its scorers, calibration, a
        decision threshold or a fold of tuning needs.
    """
    _refuse_unusable(recipe, spine, rows)
    split, y = _split(recipe, rows, spine.labels[recipe.label]), _labels(recipe, rows[recipe.label])
    parts = {name: y[mask] for name, mask in split.parts.items()}
    if recipe.task == "classification":
        check_classes(recipe, spine, parts)
        if recipe.tuning:  # its folds are told here, before the join
            times = rows[EVENT_TIMESTAMP].filter(pa.array(split.train))
            tuning_folds(recipe, recipe.tuning, times, parts["training"])
    return parts


def split_rows(
    recipe: Recipe, table: pa.Table, columns: Sequence[InputColumn], *, label_window: timedelta
) -> TrainingData:
    """Return the rows of a training table as model inputs and labels, split by time.

    Parameters
    ----------
    table
        As `load_training_data` reads it, or as an earlier training recorded it.
    columns
        Those of the model, in its order.

    Raises
    ------
    RunnerError
        If the embargo is shorter than the label window, or a part has too few rows.
    """
    split = _split(recipe, table, label_window)
    X, y = model_inputs(table, columns), _labels(recipe, table[recipe.label])
    train, test, calibration, validation = (
        None if mask is None else Rows(X[mask], y[mask])
        for mask in (split.train, split.test, split.calibration, split.validation)
    )
    assert train is not None  # noqa: S101 - these masks always are
    assert test is not None  # noqa: S101 - likewise
    return TrainingData(table, train, test, split, calibration, validation)


def _split(recipe: Recipe, table: pa.Table, label_window: timedelta) -> TimeSplit:
    try:
        return split_by_time(
            table[EVENT_TIMESTAMP],
            test=recipe.split.test,
            embargo=recipe.split.embargo,
            label_window=label_window,
            calibration=recipe.calibration.period if recipe.calibration else None,
            validation=recipe.decision_threshold.period if recipe.decision_threshold else None,
        )
    except TooFewRowsError as err:
        hint = "make this period longer"
        if err.part == "training":
            hint = "make these periods shorter, or let the spine begin earlier"
        hint = f"{hint}, then run the same command again"
        raise recipe.error(PERIODS[err.part], str(err), hint) from err


def table_digest(table: pa.Table) -> str:
    """Return the sha256 of the table's values, names, types and order of rows.

    What lies under a null, and how the columns are chunked, makes no difference.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name]
        valid = np.packbits(np.asarray(column.is_valid().to_numpy(), dtype=np.bool_))
        dense = _in_one_chunk(column.drop_null())
        digest.update(f"{name}:{column.type}:{len(column)}\n".encode())
        digest.update(valid.tobytes())
        schema = pa.schema([("values", dense.type)])
        with pa.ipc.new_stream(pa.PythonFile(_Sink(digest), mode="w"), schema) as writer:
            writer.write_table(pa.table({"values": dense}))
    return digest.hexdigest()


class _Sink(io.RawIOBase):
    """A file that passes what is written on to a digest: no second copy of a large column."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        self._digest.update(data)
        return memoryview(data).nbytes


def _in_one_chunk(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column in one chunk; texts whose offsets exceed 32 bits as large_string."""
    if pa.types.is_string(column.type) and column.nbytes > _STRING_BYTES:
        column = column.cast(pa.large_string())
    return pa.chunked_array([column.combine_chunks()], type=column.type)


def _refuse_unusable(recipe: Recipe, spine: Spine, table: pa.Table) -> None:
    if table.num_rows == 0:
        raise RunnerError(
            f"{recipe.path}: spine {spine.name} ({spine.schema}.{spine.alias}) is empty",
            hint=f"load raw data, then `dbt build --select +{spine.name}`",
        )
    for column in (EVENT_TIMESTAMP, recipe.label):
        nulls = table[column].null_count
        if nulls:
            raise RunnerError(
                f"{spine.file}: {spine.name}.{column} is null in {nulls} of {table.num_rows} rows",
                hint="filter them out in the spine's SQL and add a not_null test",
            )
    if recipe.task == "regression":
        _refuse_infinite(recipe, spine, table[recipe.label])


def _refuse_too_large(
    recipe: Recipe, table: pa.Table, inputs: Sequence[RecipeFeature | RequestInput]
) -> None:
    references = {one.column: one.reference for one in inputs}
    found = too_large(table, {one.column: one.dtype for one in inputs})
    if found:
        given = all(one.column in recipe.request for one in found)
        raise recipe.error(
            ("request",) if given else ("features",),
            "; ".join(
                f"{references[one.column]} {one.problem} in {one.rows.sum():,} of "
                f"{table.num_rows:,} rows, the largest is {one.largest:g}"
                for one in found
            ),
            hint=CAP_IT.replace("feature mart", "spine") if given else CAP_IT,
        )


def _refuse_infinite(recipe: Recipe, spine: Spine, column: pa.ChunkedArray) -> None:
    infinite = int((~np.isfinite(_labels(recipe, column))).sum())
    if infinite:
        raise RunnerError(
            f"{spine.file}: {spine.name}.{recipe.label} is infinite or NaN in {infinite:,} of "
            f"{len(column):,} rows",
            hint="filter them out, or cap the label, in the spine's SQL",
        )


def _labels(recipe: Recipe, column: pa.ChunkedArray) -> Labels:
    if recipe.task == "regression":
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())
    if pa.types.is_boolean(column.type):
        return np.asarray(pc.cast(column, pa.int64()).to_numpy())
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_pylist(), dtype=object)
