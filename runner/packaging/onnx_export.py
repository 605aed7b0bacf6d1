"""A fitted pipeline as ONNX, and what ONNX Runtime answers for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline

from runner.modelling.fitted_model import calibration_of, uncalibrated
from runner.packaging.boosters import teach_boosters
from runner.packaging.hist_gradient_boosting import teach_hist_gradient_boosting
from runner.packaging.onnx_calibration import append_calibration
from runner.packaging.onnx_graph import PROBABILITIES, GraphWriter
from runner.packaging.onnx_preprocessing import teach_preprocessing

_OPSET = 17  # the last in which Split divides evenly without a number of parts
_TIE = 1e-6
"""Two classes whose shares of a forest's votes are nearer than this have as many votes.

20 trees that vote 10 to 10 share 0.5 and 0.5 in scikit-learn, which then predicts the first class.
In float32 ten times 0.05 is not 0.5, and the predicted class depends on which trees voted for it.
"""


def export_onnx(pipeline: Pipeline, X: pd.DataFrame) -> bytes:
    """Return the fitted pipeline as ONNX, with one input of all numbers and one of all texts.

    Parameters
    ----------
    X
        Model inputs, shape (n_rows, n_features), for their names and types.

    Raises
    ------
    Exception
        Of any type, if a part of the pipeline has no converter.
    """
    calibration = calibration_of(pipeline) if is_classifier(pipeline) else None
    base = _renamed(uncalibrated(pipeline), _identifiers(X))
    options: dict[int, dict[str, bool]] = {}
    if is_classifier(pipeline):
        options[id(base)] = {"zipmap": False}
    if calibration is not None and hasattr(base[-1], "decision_function"):
        options[id(base[-1])] = {"zipmap": False, "raw_scores": True}
    model = _converted(base, X, options)
    _send_missing(model, base[-1])
    if calibration is not None:
        append_calibration(model, calibration)
    elif isinstance(base[-1], RandomForestClassifier | ExtraTreesClassifier):
        _break_ties(model, base.classes_.tolist())
    return _finished(model, X)


def export_preprocessing(pipeline: Pipeline, X: pd.DataFrame) -> bytes:
    """Return the pipeline without its estimator as ONNX, with the inputs of `export_onnx`.

    Its only output has the estimator's columns, shape (n_rows, n_columns). Raises as that does.
    """
    return _finished(_converted(_renamed(pipeline[:-1], _identifiers(X)), X, {}), X)


def _converted(
    pipeline: Pipeline, X: pd.DataFrame, options: dict[int, dict[str, bool]]
) -> onnx.ModelProto:
    """Return the pipeline, its columns renamed, as ONNX with an input for each column."""
    teach_preprocessing()
    teach_hist_gradient_boosting()
    teach_boosters()
    types = [
        (name, (StringTensorType if X[column].dtype == object else FloatTensorType)([None, 1]))
        for column, name in _identifiers(X).items()
    ]
    with warnings.catch_warnings():
        # skl2onnx writes HistGradientBoosting's flags as booleans, which protobuf minds.
        told = "Field onnx.*Expected an int, got a boolean"
        warnings.filterwarnings("ignore", told, DeprecationWarning)
        return to_onnx(pipeline, initial_types=types, options=options or None, target_opset=_OPSET)


def _finished(model: onnx.ModelProto, X: pd.DataFrame) -> bytes:
    """Return the content of the model with an input for all numbers and one for all texts."""
    names = _identifiers(X)
    text, numeric = ([names[column] for column in columns] for columns in _by_kind(X))
    _join_inputs(model, "numeric", TensorProto.FLOAT, numeric)
    _join_inputs(model, "text", TensorProto.STRING, text)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _identifiers(X: pd.DataFrame) -> dict[str, str]:
    """Return new names: skl2onnx takes identifiers of C, and renames the others on its way."""
    return {str(name): f"c{number}" for number, name in enumerate(X)}


class OnnxSession:
    """An exported pipeline, loaded as serving loads it."""

    def __init__(self, content: bytes) -> None:
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the sums of the trees in the same order
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def run(self, X: pd.DataFrame) -> list[npt.NDArray[np.generic]]:
        """Return labels and, of a classifier, probabilities for model inputs."""
        text, numeric = _by_kind(X)
        inputs: dict[str, npt.NDArray[np.generic]] = {}
        if numeric:
            inputs["numeric"] = X[numeric].to_numpy(np.float32)
        if text:
            inputs["text"] = X[text].to_numpy(object)
        outputs: list[npt.NDArray[np.generic]] = self._session.run(None, inputs)
        return outputs


def _by_kind(X: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the columns that are text, and of those that are numbers."""
    kinds = {str(name): dtype.kind for name, dtype in X.dtypes.items()}
    text = [name for name, kind in kinds.items() if kind == "O"]
    return text, [name for name, kind in kinds.items() if kind != "O"]


def _renamed(pipeline: Pipeline, names: dict[str, str]) -> Pipeline:
    """Return the fitted pipeline with other names of its input columns."""
    name, first = pipeline.steps[0]
    if not isinstance(first, ColumnTransformer):  # it takes all of them, whatever their names
        return pipeline
    first = copy.copy(first)
    first.transformers_ = [
        (kind, transformer, [names[str(column)] for column in columns])
        for kind, transformer, columns in first.transformers_
        if len(columns)
    ]
    return Pipeline([(name, first), *pipeline.steps[1:]])


def _send_missing(model: onnx.ModelProto, estimator: BaseEstimator) -> None:
    """Let a missing value go through scikit-learn's trees as it does there.

    skl2onnx sends all of them right: the shares of a forest's votes differ by up to 1.0.
    """
    fitted = getattr(estimator, "estimators_", [estimator])
    trees = [one.tree_ for one in fitted if hasattr(one, "tree_")]
    ensembles = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not trees or len(trees) != len(fitted) or len(ensembles) != 1:
        return
    attributes = {attribute.name: attribute for attribute in ensembles[0].attribute}
    numbers = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    goes_left = [int(trees[tree].missing_go_to_left[node]) for tree, node in numbers]
    attributes["nodes_missing_value_tracks_true"].ints[:] = goes_left


def _break_ties(model: onnx.ModelProto, classes: Sequence[object]) -> None:
    """Let the first of the classes with the most votes be the label, as in scikit-learn."""
    graph = GraphWriter(model, "tie")
    most = graph.node("ReduceMax", PROBABILITIES, axes=[1], keepdims=1)
    nearly = graph.node("Sub", most, graph.constant(TensorProto.FLOAT, [1], [_TIE]))
    among = graph.node("GreaterOrEqual", PROBABILITIES, nearly)
    as_numbers = graph.node("Cast", among, to=TensorProto.FLOAT)
    position = graph.node("ArgMax", as_numbers, axis=1, keepdims=0)
    label, kind = graph.class_at(position, list(classes))
    graph.answer(label, kind, PROBABILITIES, len(classes))


def _join_inputs(model: onnx.ModelProto, name: str, kind: int, columns: list[str]) -> None:
    """Replace one input per column by one input of shape (n_rows, n_columns) and a Split.

    Twenty inputs cost more per request than the forest behind them.
    """
    if not columns:
        return
    graph = model.graph
    others = [value for value in graph.input if value.name not in set(columns)]
    del graph.input[:]
    shape = [None, len(columns)]
    graph.input.extend([*others, onnx.helper.make_tensor_value_info(name, kind, shape)])
    graph.node.insert(0, onnx.helper.make_node("Split", [name], columns, axis=1))
