"""The training rows: joined, checked, turned into model inputs and split by time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore

from runner.errors import RunnerError
from runner.feature_store.store import RecipeFeature, training_table
from runner.modelling.model_inputs import InputColumn, model_inputs
from runner.modelling.split import TimeSplit, TooFewRowsError, split_by_time
from runner.project.manifest import EVENT_TIMESTAMP, Spine

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe
    from runner.recipes.yaml_source import KeyPath


Labels = npt.NDArray[np.generic]
_SERVED_AS_ONNX_ONLY = ("lightgbm.", "xgboost.")
_PERIODS: Mapping[str, KeyPath] = {
    "training": ("split", "test"),
    "calibration": ("calibration", "period"),
    "validation": ("decision_threshold", "period"),
    "test": ("split", "test"),
}
_CALIBRATION_ROWS = 5  # scikit-learn's least, of each class


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
    store: FeatureStore, recipe: Recipe, spine: Spine, features: list[RecipeFeature]
) -> TrainingData:
    """Return the recipe's training rows, each feature as it was knowable at its timestamp.

    Raises
    ------
    RunnerError
        As `split_labels`, for the spine may have been built anew since that was asked.
    """
    table = training_table(store, spine, features, recipe.label, recipe.spine_slices)
    split_labels(recipe, spine, table)
    return split_rows(recipe, table, features, label_window=spine.labels[recipe.label])


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
        classification label has one class only, or not the classes that calibration or a decision
        threshold needs.
    """
    _refuse_unusable(recipe, spine, rows)
    split, y = _split(recipe, rows, spine.labels[recipe.label]), _labels(recipe, rows[recipe.label])
    parts = {name: y[mask] for name, mask in split.parts.items()}
    if recipe.task == "classification":
        _refuse_single_class(recipe, spine, parts)
        _refuse_other_classes(recipe, parts)
    return parts


def split_rows(
    recipe: Recipe, table: pa.Table, columns: Sequence[InputColumn], *, label_window: timedelta
) -> TrainingData:
    """Return the rows of a training table as model inputs and labels, split by time.

    Parameters
    ----------
    table
        As `training_table` returns it, or as an earlier training recorded it.
    columns
        The features, in the order of the model's inputs.

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
        raise recipe.error(_PERIODS[err.part], str(err), hint) from err


def table_digest(table: pa.Table) -> str:
    """Return the sha256 of the table's values, names, types and order of rows.

    What lies under a null, and how the columns are chunked, makes no difference.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name]
        valid = np.packbits(np.asarray(column.is_valid().to_numpy(), dtype=np.bool_))
        dense = pa.chunked_array([column.drop_null().combine_chunks()], type=column.type)
        digest.update(f"{name}:{column.type}:{len(column)}\n".encode())
        digest.update(valid.tobytes())
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.schema([("values", column.type)])) as writer:
            writer.write_table(pa.table({"values": dense}))
        digest.update(sink.getvalue())
    return digest.hexdigest()


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


def _labels(recipe: Recipe, column: pa.ChunkedArray) -> Labels:
    if recipe.task == "regression":
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())
    if pa.types.is_boolean(column.type):
        return np.asarray(pc.cast(column, pa.int64()).to_numpy())
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_pylist(), dtype=object)


def _refuse_single_class(recipe: Recipe, spine: Spine, parts: Mapping[str, Labels]) -> None:
    for name, y in parts.items():
        classes = np.unique(y)
        if len(classes) < 2:
            raise recipe.error(
                _PERIODS[name],
                f"label {recipe.label} of {spine.name} is {classes[0]!s} in all {len(y)} {name} "
                "rows: there is nothing to tell apart",
                hint="look at the spine's SQL, or change the period so that both classes occur",
            )


def _refuse_other_classes(recipe: Recipe, parts: Mapping[str, Labels]) -> None:
    """Raise unless each class has calibration rows, and a threshold has two to tell apart."""
    classes = np.unique(parts["training"])
    if recipe.decision_threshold and len(classes) > 2:
        raise recipe.error(
            ("decision_threshold",),
            f"label {recipe.label} has {len(classes)} classes; a threshold tells two apart",
            hint="delete decision_threshold, or make a label of two classes in the spine's SQL",
        )
    if "calibration" not in parts:
        return
    if len(classes) > 2 and recipe.estimator.class_path.startswith(_SERVED_AS_ONNX_ONLY):
        raise recipe.error(
            ("calibration",),
            f"label {recipe.label} has {len(classes)} classes; the calibration of a LightGBM or "
            "XGBoost estimator is served for two",
            hint="delete calibration, or choose an estimator of scikit-learn",
        )
    y = parts["calibration"]
    for label in np.setdiff1d(y, classes):
        raise recipe.error(
            ("calibration", "period"),
            f"label {recipe.label} is {label!s} in calibration rows, but in no training row",
            hint="change the period, or the spine's SQL, so that training rows have every class",
        )
    for label in classes:
        count = int((y == label).sum())
        if count < _CALIBRATION_ROWS:
            raise recipe.error(
                ("calibration", "period"),
                f"label {recipe.label} is {label!s} in {count} of {len(y)} calibration rows; each "
                f"class wants {_CALIBRATION_ROWS} or more",
                hint="make the calibration period longer",
            )
