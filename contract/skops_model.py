"""A scikit-learn pipeline, where its ONNX conversion is not proven equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle
from contract.columns import Column
from contract.computation import computation_of
from contract.predictions import Predictions, decided, no_predictions
from contract.serving_errors import BundleError
from contract.tensors import Numbers, Row, numbers, texts

if TYPE_CHECKING:
    import pandas as pd

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
            return no_predictions(self.bundle)
        labels = self._pipeline.predict(frame)
        if self.bundle.task == "regression":
            return Predictions(np.asarray(labels, dtype=np.float64), None)
        # The types that an ONNX model has, whatever the estimator's own are.
        probabilities = np.asarray(self._pipeline.predict_proba(frame), dtype=np.float32)
        classes = np.array(self.bundle.label.classes)
        return decided(self.bundle, np.asarray(labels).astype(classes.dtype), probabilities)

    def score_rows(self, rows: Sequence[Row] | Numbers) -> Predictions:
        """See `Model.score_rows`."""
        if not len(rows):
            return no_predictions(self.bundle)
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
            return np.array(texts(column), dtype=object)
        return numbers(name, column).astype(np.float32)  # as the pipeline was fitted


def load_skops(bundle: Bundle) -> SkopsModel:
    """Return the bundle's model. Raises BundleError if it holds a type that is not trusted."""
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
