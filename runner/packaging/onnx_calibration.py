"""A calibrated classifier as ONNX: the calibration as nodes behind the estimator's own.

skl2onnx has a converter too, but its isotonic calibration answers the value of the nearest
threshold, where scikit-learn draws a line between two: 0.03 apart on a small forest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.calibration import CalibratedClassifierCV

_SCORES = "probabilities"  # skl2onnx's name of the output, raw scores or not


def append_calibration(model: onnx.ModelProto, calibrated: CalibratedClassifierCV) -> None:
    """Let `model`, which answers the estimator's scores, answer calibrated probabilities.

    Parameters
    ----------
    model
        The uncalibrated model, with the scores that the calibration was fitted on (those of
        `decision_function` if there is one) as its second output, shape (n_rows, 2).

    Raises
    ------
    ValueError
        If there are more than two classes.
    """
    classes = calibrated.classes_.tolist()
    if len(classes) != 2:
        raise ValueError(f"the calibration of {len(classes)} classes is not written as ONNX")
    [one] = calibrated.calibrated_classifiers_
    [calibrator] = one.calibrators
    graph = _Graph(model)
    # In float64, as scikit-learn: an isotonic line may be so steep that float32 falls off it.
    score = graph.node("Cast", graph.column(_SCORES, 1), to=TensorProto.DOUBLE)
    calibrate = _sigmoid if one.method == "sigmoid" else _isotonic
    positive = calibrate(graph, calibrator, score)
    negative = graph.node("Sub", graph.double([1.0]), positive)
    both = graph.node("Concat", negative, positive, axis=1)
    position = graph.node("ArgMax", both, axis=1, keepdims=0)
    kind = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
    label = graph.node("Gather", graph.constant(kind, [2], classes), position)
    probabilities = graph.node("Cast", both, to=TensorProto.FLOAT)
    del model.graph.output[:]
    model.graph.output.extend(
        [
            helper.make_tensor_value_info(label, kind, [None]),
            helper.make_tensor_value_info(probabilities, TensorProto.FLOAT, [None, 2]),
        ]
    )


def _sigmoid(graph: _Graph, calibrator: Any, score: str) -> str:
    slope, intercept = graph.double([-calibrator.a_]), graph.double([-calibrator.b_])
    return graph.node("Sigmoid", graph.node("Add", graph.node("Mul", score, slope), intercept))


def _isotonic(graph: _Graph, calibrator: Any, score: str) -> str:
    """Return the line through the thresholds: what each part of it adds up to the score."""
    x = calibrator.X_thresholds_.astype(np.float64)
    y = calibrator.y_thresholds_.astype(np.float64)
    if len(x) == 1:  # a line of one point is flat
        x, y = np.append(x, x[0] + 1.0), np.append(y, y[0])
    widths = np.diff(x)
    reached = graph.node("Sub", score, graph.double(x[:-1]))
    reached = graph.node("Max", reached, graph.double([0.0]))
    reached = graph.node("Min", reached, graph.double(widths))
    slopes = graph.constant(TensorProto.DOUBLE, [len(widths), 1], np.diff(y) / widths)
    return graph.node("Add", graph.node("MatMul", reached, slopes), graph.double([y[0]]))


class _Graph:
    """Adds nodes and constants to a model's graph, each under a name of its own."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._count = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = self._name()
        self._graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def column(self, tensor: str, number: int) -> str:
        return self.node("Gather", tensor, self.constant(TensorProto.INT64, [1], [number]), axis=1)

    def double(self, values: Any) -> str:
        return self.constant(TensorProto.DOUBLE, [len(values)], values)

    def constant(self, kind: int, shape: list[int], values: Any) -> str:
        name = self._name()
        if kind == TensorProto.STRING:
            values = [value.encode() for value in values]
        tensor = helper.make_tensor(name, kind, shape, list(np.ravel(values)))
        self._graph.initializer.append(tensor)
        return name

    def _name(self) -> str:
        self._count += 1
        return f"calibration_{self._count}"
