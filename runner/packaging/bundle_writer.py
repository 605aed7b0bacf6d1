"""The serving bundle: the fitted pipeline as ONNX and everything serving must know of it.

`docs/serving.md` describes the files. ONNX is used only where it is proven to predict what
the pipeline predicts on the held-out rows; otherwise the bundle holds the pipeline itself in the
skops format, which unlike a pickle cannot run code of its own. LightGBM's and XGBoost's readers are
no such format: their models are served as ONNX or not at all.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd
import skops.io
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from contract.feast_format import field_hash
from contract.scoring import Predictions, class_labels
from runner.errors import RunnerError
from runner.feature_store.store import RecipeFeature
from runner.modelling.fitted_model import calibration_of, threshold_of, uncalibrated
from runner.packaging.boosters import teach_skl2onnx
from runner.packaging.onnx_calibration import append_calibration
from runner.project.manifest import Spine

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

# The largest difference between ONNX and the pipeline on held-out rows that counts as equal:
# for probabilities absolute, for regression relative to the largest prediction. float32 carries
# seven digits.
TOLERANCE = 1e-5
_PROOF_ROWS = 5_000
_OPSET = 17  # the last in which Split divides evenly without being told into how many
_SAFE_MODULES = ("sklearn.", "numpy.", "scipy.")
_BOOSTERS = ("lightgbm.", "xgboost.")


@dataclass(frozen=True)
class ServedModel:
    """A pipeline ready to be served.

    Attributes
    ----------
    file, content
        File name in the bundle and its bytes.
    format
        `onnx` or `skops`.
    proof
        What was compared and how close it was, or why ONNX was not used.
    threshold
        The decision threshold; None if the most probable class is predicted.
    """

    file: str
    content: bytes
    format: str
    proof: str
    threshold: float | None


def served_model(pipeline: Pipeline, X: pd.DataFrame) -> ServedModel:
    """Return the fitted pipeline as ONNX if proven equal on held-out rows, else as skops.

    Parameters
    ----------
    X
        Held-out model inputs, shape (n_rows, n_features); up to 5,000 are compared.

    Raises
    ------
    RunnerError
        If it can be served neither way.
    """
    sample = X.iloc[:: max(1, len(X) // _PROOF_ROWS)]
    try:
        content = _onnx(pipeline, X)
    except Exception as err:  # a converter may fail in any way; skops serves the model then
        reason = f"not convertible to ONNX: {type(err).__name__}: {err}"
        return _skops(pipeline, " ".join(reason.split())[:300])
    difference = _largest_difference(pipeline, content, sample)
    if not difference <= TOLERANCE:
        return _skops(pipeline, f"ONNX differs by {difference:.2g} on {len(sample)} held-out rows")
    name = type(uncalibrated(pipeline)[-1]).__name__
    equal = f"ONNX equals the {name} pipeline within {difference:.1g}"
    proof = f"{equal} on {len(sample)} held-out rows"
    return ServedModel("model.onnx", content, "onnx", proof, threshold_of(pipeline))


def write_bundle(
    folder: Path,
    *,
    recipe: Recipe,
    spine: Spine,
    features: Sequence[RecipeFeature],
    classes: list[Any] | None,
    model: ServedModel,
    examples: dict[str, Any],
    run: dict[str, Any],
) -> str:
    """Write the bundle into `folder` and return the sha256 of its serving.json.

    Parameters
    ----------
    classes
        The labels the model tells apart, in the order of its probabilities; None for regression.
    examples
        An example value per entity key, for the API's docs.
    run
        `feast_project`, `run_id`, `created_at`, `metrics` and `lineage`.
    """
    (folder / model.file).write_bytes(model.content)
    content = {
        "format_version": 1 if model.threshold is None else 2,
        **run,
        "registered_model_name": recipe.registered_model_name,
        "task": recipe.task,
        "label": {
            "name": recipe.label,
            "description": spine.columns[recipe.label].description,
            "classes": classes,
            "decision_threshold": model.threshold,
        },
        "entity_keys": _entity_keys(spine, examples),
        "features": [_feature(feature, recipe) for feature in features],
        "model": {
            "file": model.file,
            "format": model.format,
            "inputs": _inputs(features),
            "proof": model.proof,
        },
        "files": {model.file: hashlib.sha256(model.content).hexdigest()},
        "recipe": recipe.dump(),
        "versions": {
            name: version(name) for name in ("scikit-learn", "skl2onnx", "onnxruntime", "feast")
        },
    }
    data = json.dumps(content, indent=2).encode()
    (folder / "serving.json").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def trusted_types(pipeline: Pipeline) -> tuple[bytes, list[str]]:
    """Return the pipeline in the skops format and the types its reader has to trust.

    Raises
    ------
    RunnerError
        If it holds a type from outside scikit-learn, NumPy, SciPy, LightGBM and XGBoost, or cannot
        be written.
    """
    try:
        content = skops.io.dumps(pipeline)
    except Exception as err:  # skops meets what it does not know in many ways
        raise RunnerError(
            f"the fitted pipeline cannot be written by skops: {type(err).__name__}: {err}",
            hint="simplify estimator.init_args, such as an early-stopping scorer, in the recipe",
        ) from err
    types = skops.io.get_untrusted_types(data=content)
    safe = (*_SAFE_MODULES, *_BOOSTERS, "collections.OrderedDict")
    foreign = [name for name in types if not name.startswith(safe)]
    if foreign:
        raise RunnerError(
            f"the pipeline holds {foreign[0]}, which is not scikit-learn's own",
            hint="choose an estimator from docs/recipe.md",
        )
    return content, types


def _skops(pipeline: Pipeline, reason: str) -> ServedModel:
    content, types = trusted_types(pipeline)
    boosters = [name for name in types if name.startswith(_BOOSTERS)]
    if boosters:
        hint = "change estimator.init_args or preprocessing.numeric.scale"
        if calibration_of(pipeline):
            hint = "choose `method: sigmoid` in calibration, or delete it"
        raise RunnerError(
            f"{boosters[-1]} cannot be served: {reason}",
            hint=f"{hint}; docs/recipe.md says what is served",
        )
    return ServedModel("model.skops", content, "skops", reason, threshold_of(pipeline))


def _onnx(pipeline: Pipeline, X: pd.DataFrame) -> bytes:
    teach_skl2onnx()
    text = {name for name in X if X[name].dtype == object}
    types = [
        (name, (StringTensorType if name in text else FloatTensorType)([None, 1])) for name in X
    ]
    calibration = calibration_of(pipeline) if is_classifier(pipeline) else None
    base = uncalibrated(pipeline)
    options: dict[int, dict[str, bool]] = {}
    if is_classifier(pipeline):
        options[id(base)] = {"zipmap": False}
    if calibration is not None and hasattr(base[-1], "decision_function"):
        options[id(base[-1])] = {"zipmap": False, "raw_scores": True}
    with warnings.catch_warnings():
        # skl2onnx writes HistGradientBoosting's flags as booleans, which protobuf minds.
        told = "Field onnx.*Expected an int, got a boolean"
        warnings.filterwarnings("ignore", told, DeprecationWarning)
        model = to_onnx(base, initial_types=types, options=options or None, target_opset=_OPSET)
    if calibration is not None:
        append_calibration(model, calibration)
    for name, kind in (("numeric", onnx.TensorProto.FLOAT), ("text", onnx.TensorProto.STRING)):
        columns = [str(column) for column in X if (column in text) == (name == "text")]
        _join_inputs(model, name, kind, columns)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


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


def class_list(pipeline: Pipeline) -> list[Any] | None:
    """Return the classes in the order of the probabilities; None for a regression."""
    return pipeline.classes_.tolist() if is_classifier(pipeline) else None


def served_predictions(pipeline: Pipeline, served: ServedModel, X: pd.DataFrame) -> Predictions:
    """Return what the model will answer for `X`, shape (n_rows, n_features), when it is served."""
    if not is_classifier(pipeline):
        onnx_ = served.format == "onnx"
        values = _run_onnx(served.content, X)[0] if onnx_ else pipeline.predict(X)
        return Predictions(np.asarray(values).reshape(-1).astype(np.float64), None)
    if served.format == "onnx":
        labels, probabilities = _run_onnx(served.content, X)
    else:
        labels = pipeline.predict(X)
        probabilities = np.asarray(pipeline.predict_proba(X), dtype=np.float32)
    if served.threshold is not None:
        labels = class_labels(probabilities, pipeline.classes_.tolist(), served.threshold)
    return Predictions(np.asarray(labels).reshape(-1), probabilities)


def _run_onnx(content: bytes, X: pd.DataFrame) -> list[npt.NDArray[Any]]:
    text = [name for name in X if X[name].dtype == object]
    numeric = [name for name in X if X[name].dtype != object]
    inputs: dict[str, npt.NDArray[Any]] = {}
    if numeric:
        inputs["numeric"] = X[numeric].to_numpy(np.float32)
    if text:
        inputs["text"] = X[text].to_numpy(object)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as serving does: the sums of the trees in the same order
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: list[npt.NDArray[Any]] = session.run(None, inputs)
    return outputs


def _largest_difference(pipeline: Pipeline, content: bytes, X: pd.DataFrame) -> float:
    outputs = _run_onnx(content, X)
    if is_classifier(pipeline):
        return float(np.abs(outputs[1] - pipeline.predict_proba(X)).max())
    expected = pipeline.predict(X)
    scale = max(float(np.abs(expected).max()), 1e-12)
    return float(np.abs(outputs[0].ravel() - expected).max()) / scale


def _inputs(features: Sequence[RecipeFeature]) -> list[dict[str, Any]]:
    text = [feature.column for feature in features if feature.dtype == "string"]
    numeric = [feature.column for feature in features if feature.dtype != "string"]
    inputs = []
    if numeric:
        inputs.append({"name": "numeric", "type": "float", "columns": numeric})
    if text:
        inputs.append({"name": "text", "type": "string", "columns": text})
    return inputs


def _entity_keys(spine: Spine, examples: dict[str, Any]) -> list[dict[str, Any]]:
    # All of the spine's, used by a feature or not: callers need not change with the features.
    return [
        {
            "name": column.name,
            "dtype": column.dtype,
            "description": column.description,
            "example": examples[column.name],
        }
        for column in (spine.columns[key] for key in spine.join_keys)
    ]


def _feature(feature: RecipeFeature, recipe: Recipe) -> dict[str, Any]:
    mart = feature.mart
    return {
        "name": feature.column,
        "view": mart.name,
        "feature": feature.name,
        "dtype": feature.dtype,
        "join_keys": sorted(mart.join_keys),
        "ttl_seconds": _seconds(mart.ttl),
        "redis_field": field_hash(mart.name, feature.name).hex(),
        "description": feature.description,
        "overridable": recipe.is_overridable(feature.reference),
    }


def _seconds(ttl: timedelta | None) -> int | None:
    return None if ttl is None else int(ttl.total_seconds())
