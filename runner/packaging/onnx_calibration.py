"""A calibrated classifier as ONNX: the calibration as nodes behind the estimator's own.

skl2onnx has a converter too, but its isotonic calibration answers the value of the nearest
threshold, where scikit-learn draws a line between two: 0.03 apart on a small forest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from sklearn.calibration import CalibratedClassifierCV

from runner.packaging.onnx_graph import PROBABILITIES, GraphWriter


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
    graph = GraphWriter(model, "calibration")
    # In float64, as scikit-learn: an isotonic line may be so steep that float32 falls off it.
    score = graph.node("Cast", graph.column(PROBABILITIES, 1), to=TensorProto.DOUBLE)
    calibrate = _sigmoid if one.method == "sigmoid" else _isotonic
    positive = calibrate(graph, calibrator, score)
    negative = graph.node("Sub", graph.double([1.0]), positive)
    both = graph.node("Concat", negative, positive, axis=1)
    position = graph.node("ArgMax", both, axis=1, keepdims=0)
    label, kind = graph.class_at(position, classes)
    graph.answer(label, kind, graph.node("Cast", both, to=TensorProto.FLOAT), 2)


def _sigmoid(graph: GraphWriter, calibrator: Any, score: str) -> str:
    slope, intercept = graph.double([-calibrator.a_]), graph.double([-calibrator.b_])
    return graph.node("Sigmoid", graph.node("Add", graph.node("Mul", score, slope), intercept))


def _isotonic(graph: GraphWriter, calibrator: Any, score: str) -> str:
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
