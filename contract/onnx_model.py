"""A model that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from contract.bundle import Bundle
from contract.columns import Column
from contract.computation import computation_of
from contract.predictions import Predictions, decided, no_predictions
from contract.serving_errors import BundleError
from contract.tensors import Numbers, Row, Tensor, Tensors

if TYPE_CHECKING:
    import onnxruntime


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
            return no_predictions(self.bundle)
        return self._run(tensors)

    def score_rows(self, rows: Sequence[Row] | Numbers) -> Predictions:
        """See `Model.score_rows`."""
        return (
            self._run(self._tensors.from_rows(rows)) if len(rows) else no_predictions(self.bundle)
        )

    def _run(self, tensors: dict[str, Tensor]) -> Predictions:
        outputs = self._session.run(None, tensors)
        if self.bundle.task == "regression":
            return Predictions(outputs[0].reshape(-1).astype(np.float64), None)
        return decided(self.bundle, outputs[0].reshape(-1), outputs[1])


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Return what runs an ONNX model, on one thread."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # handing one row to a thread pool costs more than the row
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def load_onnx(bundle: Bundle) -> OnnxModel:
    """Return the bundle's model. Raises BundleError if its inputs are not the declared ones."""
    session = open_session(bundle.read_file(bundle.model.file))
    _check_inputs(bundle, {tensor.name: tensor.type for tensor in session.get_inputs()})
    return OnnxModel(bundle, session)


_ONNX_TYPES = {"float": "tensor(float)", "string": "tensor(string)"}


def _check_inputs(bundle: Bundle, actual: dict[str, str]) -> None:
    declared = {tensor.name: _ONNX_TYPES[tensor.type] for tensor in bundle.model.inputs}
    if actual != declared:
        raise BundleError(
            f"{bundle.folder / bundle.model.file}: takes {actual}, serving.json says {declared}",
            hint="train again",
        )
