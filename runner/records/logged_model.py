"""The scikit-learn pipeline in MLflow, for whoever has a DataFrame and no feature store."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlflow
import mlflow.sklearn
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from runner.packaging.served_model import trusted_types

if TYPE_CHECKING:
    from runner.modelling.model_inputs import InputColumn
    from runner.records.run_record import Training

_SIGNATURE_TYPES = {
    "string": DataType.string,
    "float64": DataType.double,
    "float32": DataType.double,
}
_CAST = "operator.methodcaller"


def log_model(run_id: str, training: Training) -> None:
    """Log the run's pipeline as an MLflow model, in the skops format.

    As an MLflow model, a classifier answers probabilities, in the order of its classes; loaded as
    scikit-learn's, it has `predict` too.
    """
    pipeline, X = training.model.pipeline, training.prepared.data.test.X.head(5)
    _, trusted = trusted_types(pipeline)
    predict = "predict_proba" if is_classifier(pipeline) else "predict"
    predicted = infer_signature(X, getattr(pipeline, predict)(X))
    numbers = [str(name) for name in X if X[name].dtype != object]
    with mlflow.start_run(run_id=run_id):
        mlflow.sklearn.log_model(
            _lenient(pipeline, numbers),
            name="model",
            pyfunc_predict_fn=predict,
            serialization_format="skops",
            skops_trusted_types=[*trusted, _CAST],
            signature=_signature(training.prepared.inputs, predicted.outputs),
            input_example=X.astype(dict.fromkeys(numbers, "float64")),
            pip_requirements=training.pip_requirements,
        )


def _lenient(pipeline: Pipeline, numbers: Sequence[str]) -> Pipeline:
    """Return the pipeline behind two casts that make every kind of missing number a NaN.

    MLflow hands nullable integers and flags over as objects, with `pd.NA` among them, of which
    scikit-learn makes no number. pandas does, by way of its own nullable type.
    """
    casts = [
        (name, FunctionTransformer(operator.methodcaller("astype", dict.fromkeys(numbers, dtype))))
        for name, dtype in (("nullable", "Float64"), ("plain", "float64"))
    ]
    return Pipeline([*casts, *pipeline.steps])


def _signature(inputs: Sequence[InputColumn], outputs: Schema) -> ModelSignature:
    """Return a signature that takes features as pandas and SQL hand them out, missing or not.

    MLflow converts no int64, Int64 or bool to double, so whole numbers and flags are of any type;
    the pipeline makes them numbers.
    """
    columns = [
        ColSpec(_SIGNATURE_TYPES.get(column.dtype, AnyType()), column.column, required=False)
        for column in inputs
    ]
    return ModelSignature(Schema(columns), outputs)
