"""Serving bundles and online rows for the tests: made here, because the exporter is tested apart.

`write_linear_bundle` needs only onnx (0.2 s); `write_forest_bundle` fits a real pipeline.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmh3
import numpy as np

from contract.explainer import write_contributions
from contract.linear_contributions import LinearArrays

PROJECT = "shop"

# name, view, dtype, join keys, ttl
FEATURES = [
    ("user_demographics", "age", "int64", ["user_id"], None),
    ("user_demographics", "country", "string", ["user_id"], None),
    ("user_activity", "orders_7d", "int64", ["user_id"], 604_800),
    ("user_activity", "is_active", "bool", ["user_id"], 604_800),
    ("user_category_affinity", "views_30d", "float64", ["category_id", "user_id"], 86_400),
]
ENTITY_KEYS = [
    {"name": "user_id", "dtype": "int64", "description": "The user.", "example": 1},
    {"name": "category_id", "dtype": "string", "description": "The category.", "example": "toys"},
]
REQUEST = [
    {"name": "basket_usd", "dtype": "float64", "description": "Its worth.", "example": 12.5},
    {"name": "items", "dtype": "int64", "description": "How many.", "example": 2},
    {"name": "weight", "dtype": "float32", "description": "In kg.", "example": 0.1},
    {"name": "is_gift", "dtype": "bool", "description": "For another?", "example": True},
    {"name": "channel", "dtype": "string", "description": "Where.", "example": "app"},
]


def manifest(**changes: Any) -> dict[str, Any]:
    """Return a sound serving.json for a classification over FEATURES."""
    features = [
        {
            "name": f"{view}__{feature}",
            "view": view,
            "feature": feature,
            "dtype": dtype,
            "join_keys": keys,
            "ttl_seconds": ttl,
            "redis_field": redis_field(view, feature).hex(),
            "description": f"The {feature}.",
        }
        for view, feature, dtype, keys, ttl in FEATURES
    ]
    content = {
        "format_version": 1,
        "feast_project": PROJECT,
        "registered_model_name": "purchase",
        "run_id": "run1",
        "created_at": "2026-01-01T00:00:00Z",
        "task": "classification",
        "label": {"name": "is_purchase_7d", "description": "Bought?", "classes": [0, 1]},
        "entity_keys": ENTITY_KEYS,
        "features": features,
        "recipe": {"label": "is_purchase_7d"},
        "metrics": {"roc_auc": 0.8},
        "lineage": {"git_commit": "abc"},
        "versions": {"onnx": "1"},
    }
    return content | changes


def overridable(*names: str) -> list[dict[str, Any]]:
    """Return the features of a manifest, those of these names overridable."""
    return [
        feature | {"overridable": feature["name"] in names} for feature in manifest()["features"]
    ]


def write_bundle_of(folder: Path, view: str, feature: str) -> str:
    """Write a linear model of one number of another feature view."""
    field = redis_field(view, feature).hex()
    other = {"view": view, "feature": feature, "redis_field": field}
    return write_linear_bundle(folder, features=[manifest()["features"][0] | other])


def inputs_of(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the model inputs for a manifest's features, as the exporter does."""
    tensors = []
    for name, kind in (("numeric", "float"), ("text", "string")):
        columns = [
            one["name"]
            for one in (
                *(*content["features"], *content.get("request", ())),
                *content.get("computed", ()),
            )
            if one["dtype"] != "timestamp" and (one["dtype"] == "string") == (kind == "string")
        ]
        if columns:
            tensors.append({"name": name, "type": kind, "columns": columns})
    return tensors


def write_bundle(
    folder: Path, model: bytes, content: dict[str, Any], file: str = "model.onnx"
) -> str:
    """Write a bundle of any model; return the digest of its serving.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(model)
    kind = file.rpartition(".")[2]
    content = {
        "model": {"file": file, "format": kind, "inputs": inputs_of(content)},
        "files": {file: hashlib.sha256(model).hexdigest()},
    } | content
    data = json.dumps(content).encode()
    (folder / "serving.json").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def write_linear_bundle(
    folder: Path, intercept: float = 0.0, *, explained: bool = False, **changes: Any
) -> str:
    """Write a logistic model: p(1) = sigmoid(2 z), z = intercept + age + orders_7d + is_active
    + views_30d.

    Missing numbers count 0 (imputed inside the model); text is taken in and not used.

    Parameters
    ----------
    explained
        Whether it has what explains it: contributions beside rows of zeros.
    """
    content = manifest(**changes)
    if content["task"] == "regression":
        content["label"] = {"name": "spend_7d_usd", "description": "Spend.", "classes": None}
    tensors = inputs_of(content)
    model = _linear_model(content["task"], tensors, intercept)
    files = {"model.onnx": model}
    if explained:
        space = "label" if content["task"] == "regression" else "log_odds"
        files |= _explanation(space, tensors, intercept)
        content["explanation"] = {
            "space": space,
            "arrays": "explanation.npz",
            "preprocessing": "explanation.onnx",
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return write_bundle(folder, model, {"files": digests, **content})


def _explanation(space: str, tensors: list[dict[str, Any]], intercept: float) -> dict[str, bytes]:
    """Return the files that explain the linear model; its texts are columns of zeros."""
    from onnx import helper

    widths = {tensor["name"]: len(tensor["columns"]) for tensor in tensors}
    numbers, texts = widths["numeric"], widths.get("text", 0)
    slope = 1.0 if space == "label" else 2.0
    coefficients = np.array([[slope] * numbers + [0.0] * texts])
    arrays = LinearArrays(coefficients, np.array([slope * intercept]), np.zeros(numbers + texts))
    encoder = helper.make_node(
        "LabelEncoder",
        ["text"],
        ["zeros"],
        domain="ai.onnx.ml",
        keys_strings=["never"],
        values_floats=[0.0],
        default_float=0.0,
    )
    columns = helper.make_node("Concat", ["imputed", "zeros"], ["columns"], axis=1)
    nodes = [_imputer(numbers), encoder, columns] if texts else [_imputer(numbers)]
    output = _floats("columns" if texts else "imputed", numbers + texts)
    return {
        "explanation.npz": write_contributions(arrays, np.arange(numbers + texts)),
        "explanation.onnx": _onnx(nodes, tensors, [output]),
    }


def _imputer(width: int) -> Any:
    from onnx import helper

    return helper.make_node(
        "Imputer",
        ["numeric"],
        ["imputed"],
        domain="ai.onnx.ml",
        imputed_value_floats=[0.0] * width,
        replaced_value_float=float("nan"),
    )


def _floats(name: str, width: int) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])


def _onnx(nodes: list[Any], tensors: list[dict[str, Any]], outputs: list[Any]) -> bytes:
    from onnx import TensorProto, checker, helper

    kinds = {"float": TensorProto.FLOAT, "string": TensorProto.STRING}
    graph_inputs = [
        helper.make_tensor_value_info(t["name"], kinds[t["type"]], [None, len(t["columns"])])
        for t in tensors
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "linear", graph_inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=10,
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _linear_model(task: str, tensors: list[dict[str, Any]], intercept: float) -> bytes:
    from onnx import TensorProto, helper

    width = next(len(t["columns"]) for t in tensors if t["name"] == "numeric")
    if task == "regression":
        head = helper.make_node(
            "LinearRegressor",
            ["imputed"],
            ["variable"],
            domain="ai.onnx.ml",
            coefficients=[1.0] * width,
            intercepts=[intercept],
        )
        outputs = [_floats("variable", 1)]
    else:
        head = helper.make_node(
            "LinearClassifier",
            ["imputed"],
            ["label", "probabilities"],
            domain="ai.onnx.ml",
            classlabels_ints=[0, 1],
            coefficients=[-1.0] * width + [1.0] * width,
            intercepts=[-intercept, intercept],
            post_transform="SOFTMAX",
            multi_class=1,
        )
        outputs = [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            _floats("probabilities", 2),
        ]
    return _onnx([_imputer(width), head], tensors, outputs)


def redis_field(view: str, feature: str) -> bytes:
    """Return Feast's hash of a feature's name."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


class OnlineStore:
    """Writes rows the way Feast does, with Feast's own protobuf classes."""

    def __init__(self, url: str) -> None:
        import redis

        self.client = redis.Redis.from_url(url)

    def write(
        self, view: str, keys: Mapping[str, Any], values: Mapping[str, Any], age: float = 60.0
    ) -> bytes:
        """Write one row of `view`; values by feature name, None = NULL. Return the hash's name."""
        dtypes = {feature: dtype for v, feature, dtype, _, _ in FEATURES if v == view}
        mapping = {
            redis_field(view, name): value_proto(dtypes[name], value)
            for name, value in values.items()
        }
        name = entity_key(keys)
        self.client.hset(
            name, mapping={**mapping, f"_ts:{view}".encode(): timestamp_proto(time.time() - age)}
        )
        return name

    def write_user(
        self, user_id: int, category_id: str, *, age: float = 60.0, orders: int = 0
    ) -> None:
        """Write all three views of one user and category."""
        user = {"user_id": user_id}
        self.write("user_demographics", user, {"age": 0, "country": "NL"}, age)
        self.write("user_activity", user, {"orders_7d": orders, "is_active": True}, age)
        both = {"category_id": category_id, "user_id": user_id}
        self.write("user_category_affinity", both, {"views_30d": 0.5}, age)


def value_proto(dtype: str, value: Any) -> bytes:
    """Return Feast's ValueProto of a value, as bytes."""
    from feast.protos.feast.types.Value_pb2 import Value

    if value is None:
        return b""
    field = {
        "int64": "int64_val",
        "int32": "int32_val",
        "float64": "double_val",
        "float32": "float_val",
        "bool": "bool_val",
        "string": "string_val",
        "timestamp": "unix_timestamp_val",
    }[dtype]
    return bytes(Value(**{field: value}).SerializeToString())


def timestamp_proto(seconds: float) -> bytes:
    """Return protobuf's Timestamp, as bytes."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return bytes(Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)).SerializeToString())


def entity_key(keys: Mapping[str, Any], project: str = PROJECT) -> bytes:
    """Return Feast's name of an entity's hash."""
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    values = [
        Value(string_val=v) if isinstance(v, str) else Value(int64_val=v) for v in keys.values()
    ]
    key = EntityKey(join_keys=list(keys), entity_values=values)
    return bytes(serialize_entity_key(key, entity_key_serialization_version=3)) + project.encode()


def register(tracking_uri: str, folder: Path, name: str = "purchase", *, tag: str = "") -> str:
    """Log the bundle in `folder`, register it and make it the champion; return its version."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    digest = hashlib.sha256((folder / "serving.json").read_bytes()).hexdigest()
    client = MlflowClient(tracking_uri, tracking_uri)
    run = client.create_run(client.create_experiment(f"e{os.urandom(4).hex()}"))
    client.log_artifacts(run.info.run_id, str(folder), "serving_bundle")
    try:
        client.create_registered_model(name)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {"serving_bundle_sha256": tag or digest, "other": "x"}
    if tag == "none":
        del tags["serving_bundle_sha256"]
    version = client.create_model_version(
        name, f"{run.info.artifact_uri}/serving_bundle", run.info.run_id, tags=tags
    )
    client.set_registered_model_alias(name, "champion", version.version)
    return str(version.version)
