"""From feature values to predictions, for one row over HTTP and a million rows in a batch alike.

**The missing rule lives here.** A value that is missing, NULL, expired or was never seen becomes
NaN in a float tensor and "" in a text tensor; imputation happens inside the model. Booleans
become 0.0 and 1.0. Every number passes through float64 before it becomes float32, so that a
Python int, a NumPy column and an Arrow column of the same value are rounded alike. A column with a
number that is infinite or beyond float32 is refused by name: no estimator can take it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle
from contract.columns import Column, float_column, text_values
from contract.computation import computation_of
from contract.serving_errors import BundleError, FeatureRangeError
from contract.values import CAP_IT, FLOAT32_MAX, beyond_float32

if TYPE_CHECKING:
    import onnxruntime
    import pandas as pd

Tensor = npt.NDArray[Any]
Row = Sequence[Any]
Numbers = npt.NDArray[np.float64]
"""Rows of float64, none missing: shape (n_rows, n_columns)."""

_DISTANCES = (
    *("Euclidean", "Manhattan", "Chebyshev", "Minkowski"),
    *("Canberra", "BrayCurtis", "Hamming"),
)
# What a skops file may hold beside skops's own list: the plain data holders behind the estimators
# that recipes may name. None of them runs code that comes from the file.
TRUSTED_TYPES = frozenset(
    {
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        *(f"sklearn.metrics._dist_metrics.{name}Distance64" for name in _DISTANCES),
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


@dataclass(frozen=True)
class Predictions:
    """What a model says about n_rows rows.

    Attributes
    ----------
    labels
        Shape (n_rows,): the predicted class (int64 or str), or the value (float64) for a
        regression.
    probabilities
        Shape (n_rows, n_classes), columns in the order of `label.classes`; None for a
        regression.
    """

    labels: Tensor
    probabilities: npt.NDArray[np.float32] | npt.NDArray[np.float64] | None


class Model(Protocol):
    """A loaded model."""

    bundle: Bundle
    quick: bool
    """Whether one row is scored in microseconds, so that it need not leave the event loop."""

    def score(self, columns: Mapping[str, Column]) -> Predictions:
        """Return the predictions for columns of equal length, by the names of `row_dtypes`.

        Computed columns are computed; they take the instant from `event_timestamp`.

        A column is a list or a NumPy, pandas or Arrow array; nulls are None, NaN or the
        library's own.
        """

    def score_rows(self, rows: Sequence[Row] | Numbers) -> Predictions:
        """Return the predictions for rows of values in the order of `bundle.column_dtypes`.

        An array, of shape (n_rows, n_columns), if every column is a float64 and none is missing.
        """


def load_model(bundle: Bundle) -> Model:
    """Return the bundle's model, tried once on a row with every value missing.

    Raises
    ------
    BundleError
        If the model cannot be loaded or is not what `serving.json` says.
    """
    loader = _load_onnx if bundle.model.format == "onnx" else _load_skops
    try:
        model = loader(bundle)
        trial = model.score_rows([[None] * len(bundle.column_dtypes)])
    except BundleError:
        raise
    except Exception as err:  # ONNX Runtime and skops each raise a dozen types of their own
        reason = " ".join(str(err).split())[:300]
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: cannot be loaded ({reason})", hint="train again"
        ) from err
    _check_outputs(bundle, trial)
    return model


def class_labels(probabilities: Tensor, classes: Sequence[int | str], threshold: float) -> Tensor:
    """Return the class of each row: the second of two where its probability reaches `threshold`.

    Parameters
    ----------
    probabilities
        Shape (n_rows, 2). Compared as float32, which is what callers see.

    Returns
    -------
    ndarray of shape (n_rows,)
        int64 or str, as `classes` are.
    """
    reached = probabilities[:, 1].astype(np.float32) >= np.float32(threshold)
    return np.array(classes)[reached.astype(np.intp)]


def float_tensor(columns: Sequence[Column]) -> Tensor:
    """Return a float32 tensor of shape (n_rows, n_columns); missing values are NaN."""
    return np.column_stack([float_column(column) for column in columns]).astype(np.float32)


def text_tensor(columns: Sequence[Column]) -> Tensor:
    """Return an object tensor of str of shape (n_rows, n_columns); missing values are ""."""
    texts = [_texts(column) for column in columns]
    tensor = np.empty((len(texts[0]), len(texts)), dtype=object)
    for position, column in enumerate(texts):
        tensor[:, position] = column
    return tensor


def _numbers(name: str, column: Column) -> npt.NDArray[np.float64]:
    """Return a column as float64. Raises FeatureRangeError if float32 cannot hold a number of it.

    NaN is within the range: it is a missing value.
    """
    values = float_column(column)
    beyond = values[np.abs(values) > FLOAT32_MAX]
    if len(beyond):
        largest = float(beyond[np.abs(beyond).argmax()])
        raise FeatureRangeError(
            f"{name}, in {len(beyond):,} of {len(values):,} rows: {beyond_float32(largest)}",
            hint=CAP_IT,
        )
    return values


def _texts(column: Column) -> list[str]:
    return [value or "" for value in text_values(column)]


class Tensors:
    """Build a model's tensors out of columns or rows."""

    def __init__(self, bundle: Bundle) -> None:
        position = {name: i for i, name in enumerate(bundle.column_dtypes)}
        self._inputs = bundle.model.inputs
        self._positions = [[position[c] for c in tensor.columns] for tensor in self._inputs]
        width = len(position)
        self._whole = [positions == list(range(width)) for positions in self._positions]

    def from_columns(self, columns: Mapping[str, Column]) -> dict[str, Tensor]:
        """Return the tensors by name, of columns by name."""
        return {
            tensor.name: float_tensor([_numbers(name, columns[name]) for name in tensor.columns])
            if tensor.type == "float"
            else text_tensor([columns[name] for name in tensor.columns])
            for tensor in self._inputs
        }

    def from_rows(self, rows: Sequence[Row] | Numbers) -> dict[str, Tensor]:
        """Return the tensors by name, of rows in the order of `bundle.column_dtypes`."""
        if isinstance(rows, np.ndarray):
            return {
                tensor.name: rows[:, positions].astype(np.float32)
                for tensor, positions in zip(self._inputs, self._positions, strict=True)
            }
        tensors = {}
        for tensor, positions, whole in zip(
            self._inputs, self._positions, self._whole, strict=True
        ):
            picked = rows if whole else [[row[i] for i in positions] for row in rows]
            if tensor.type == "float":
                tensors[tensor.name] = np.array(picked, dtype=np.float64).astype(np.float32)
            else:
                tensors[tensor.name] = text_tensor(list(zip(*picked, strict=True)))
        return tensors


class OnnxModel:
    """A model that ONNX Runtime runs on one thread: 7 µs a row for 100 trees."""

    quick = True

    def __init__(self, bundle: Bundle, session: onnxruntime.InferenceSession) -> None:
        self.bundle = bundle
        self._session = session
        self._tensors = Tensors(bundle)
        self._computation = computation_of(bundle)

    def score(self, columns: Mapping[str, Column]) -> Predictions:
        """See `Model.score`."""
        tensors = self._tensors.from_columns(self._computation.completed(columns))
        if not len(next(iter(tensors.values()))):
            return _no_predictions(self.bundle)
        return self._run(tensors)

    def score_rows(self, rows: Sequence[Row] | Numbers) -> Predictions:
        """See `Model.score_rows`."""
        return (
            self._run(self._tensors.from_rows(rows)) if len(rows) else _no_predictions(self.bundle)
        )

    def _run(self, tensors: dict[str, Tensor]) -> Predictions:
        outputs = self._session.run(None, tensors)
        if self.bundle.task == "regression":
            return Predictions(outputs[0].reshape(-1).astype(np.float64), None)
        return _decided(self.bundle, outputs[0].reshape(-1), outputs[1])


def _decided(bundle: Bundle, labels: Tensor, probabilities: Any) -> Predictions:
    """Return a classification's predictions; with a decision threshold, that gives the labels."""
    threshold, classes = bundle.label.decision_threshold, bundle.label.classes
    if threshold is not None and classes is not None:
        labels = class_labels(probabilities, classes, threshold)
    return Predictions(labels, probabilities)


def _no_predictions(bundle: Bundle) -> Predictions:
    classes = bundle.label.classes
    if classes is None:
        return Predictions(np.empty(0), None)
    return Predictions(np.array(classes)[:0], np.empty((0, len(classes)), dtype=np.float32))


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Return what runs an ONNX model, on one thread."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # handing one row to a thread pool costs more than the row
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _load_onnx(bundle: Bundle) -> Model:
    session = open_session(bundle.read_file(bundle.model.file))
    _check_inputs(bundle, {tensor.name: tensor.type for tensor in session.get_inputs()})
    return OnnxModel(bundle, session)


class SkopsModel:
    """The scikit-learn pipeline itself, where its ONNX conversion is not proven equal."""

    quick = False

    def __init__(self, bundle: Bundle, pipeline: Any) -> None:
        self.bundle = bundle
        self._pipeline = pipeline
        used = {name for tensor in bundle.model.inputs for name in tensor.columns}
        self._row = bundle.column_dtypes
        self._computation = computation_of(bundle)
        self._dtypes = {name: dtype for name, dtype in self._row.items() if name in used}

    def score(self, columns: Mapping[str, Column]) -> Predictions:
        """See `Model.score`."""
        return self._score(self._computation.completed(columns))

    def _score(self, columns: Mapping[str, Column]) -> Predictions:
        frame = self._frame(columns)
        if frame.empty:
            return _no_predictions(self.bundle)
        labels = self._pipeline.predict(frame)
        if self.bundle.task == "regression":
            return Predictions(np.asarray(labels, dtype=np.float64), None)
        # The types that an ONNX model has, whatever the estimator's own are.
        probabilities = np.asarray(self._pipeline.predict_proba(frame), dtype=np.float32)
        classes = np.array(self.bundle.label.classes)
        return _decided(self.bundle, np.asarray(labels).astype(classes.dtype), probabilities)

    def score_rows(self, rows: Sequence[Row] | Numbers) -> Predictions:
        """See `Model.score_rows`."""
        if not len(rows):
            return _no_predictions(self.bundle)
        columns = zip(*rows, strict=True)
        return self._score(dict(zip(self._row, columns, strict=True)))

    def prepared(self, columns: Mapping[str, Column]) -> npt.NDArray[np.float32]:
        """Return what the pipeline's last step is handed, shape (n_rows, n_columns)."""
        return np.asarray(self._pipeline[:-1].transform(self._frame(columns)), np.float32)

    def _frame(self, columns: Mapping[str, Column]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({name: self._column(name, columns[name]) for name in self._dtypes})

    def _column(self, name: str, column: Column) -> Column:
        if self._dtypes[name] == "string":
            return np.array(_texts(column), dtype=object)
        return _numbers(name, column).astype(np.float32)  # as the pipeline was fitted


def _load_skops(bundle: Bundle) -> Model:
    import skops.io

    content = bundle.read_file(bundle.model.file)
    unknown = set(skops.io.get_untrusted_types(data=content)) - TRUSTED_TYPES
    if unknown:
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: holds types that are not trusted: "
            f"{', '.join(sorted(unknown))}",
            hint="use an estimator of the allow-list",
        )
    return SkopsModel(bundle, skops.io.loads(content, trusted=sorted(TRUSTED_TYPES)))


_ONNX_TYPES = {"float": "tensor(float)", "string": "tensor(string)"}


def _check_inputs(bundle: Bundle, actual: dict[str, str]) -> None:
    declared = {tensor.name: _ONNX_TYPES[tensor.type] for tensor in bundle.model.inputs}
    if actual != declared:
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: takes {actual}, serving.json says {declared}",
            hint="train again",
        )


def _check_outputs(bundle: Bundle, trial: Predictions) -> None:
    classes = bundle.label.classes
    if classes is None:
        sound = trial.labels.shape == (1,)
    else:
        sound = (
            trial.probabilities is not None
            and trial.probabilities.shape == (1, len(classes))
            and trial.labels.tolist()[0] in classes
        )
    if not sound:
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: answers labels {trial.labels!r} and "
            f"probabilities {trial.probabilities!r}, expected classes {classes}",
            hint="train again",
        )
