"""What every contender of `benchmarks.serving` needs: users in Redis, a forest in four formats."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

VIEWS = ("user_activity", "user_profile")
FEATURES = [f"f{i:02d}" for i in range(10)]
COLUMNS = [f"{view}__{feature}" for view in VIEWS for feature in FEATURES]
USERS = 1_000
TTL = timedelta(days=7)


def prepare(folder: Path, redis_port: int) -> None:
    """Fill `folder` and Redis: `feast/`, `model.skops`, `mlflow/`, `bundle/`."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(5_000, len(COLUMNS))).astype(np.float32), columns=COLUMNS)
    y = (X.iloc[:, 0] * X.iloc[:, 11] + 0.5 * rng.normal(size=len(X)) > 0).astype(int)
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0, n_jobs=1)
    pipeline = make_pipeline(SimpleImputer(strategy="median"), forest).fit(X, y)
    _write_feast(folder / "feast", redis_port, rng)
    _write_models(folder, pipeline, X)


def _write_feast(folder: Path, redis_port: int, rng: np.random.Generator) -> None:
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64
    from feast.value_type import ValueType

    folder.mkdir()
    (folder / "feature_store.yaml").write_text(
        "project: bench\nprovider: local\nregistry: {path: registry.db, cache_ttl_seconds: 600}\n"
        "offline_store: {type: file}\nentity_key_serialization_version: 3\n"
        f'online_store: {{type: redis, connection_string: "127.0.0.1:{redis_port}"}}\n'
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    values = rng.normal(size=(USERS, len(COLUMNS)))
    frame = pd.DataFrame(values, columns=COLUMNS)
    views, frames = [], []
    for view in VIEWS:
        rows = frame[[f"{view}__{name}" for name in FEATURES]].set_axis(FEATURES, axis=1)
        rows = rows.assign(user_id=np.arange(USERS), event_timestamp=datetime.now(UTC))
        path = folder / f"{view}.parquet"
        rows.to_parquet(path)
        source = FileSource(path=str(path), timestamp_field="event_timestamp")
        schema = [Field(name=name, dtype=Float64) for name in FEATURES]
        views.append(FeatureView(name=view, entities=[user], schema=schema, source=source, ttl=TTL))
        frames.append(rows)
    store = FeatureStore(folder)
    store.apply([user, *views, FeatureService(name="bench", features=views)])
    for view, rows in zip(VIEWS, frames, strict=True):
        store.write_to_online_store(view, rows)


def _write_models(folder: Path, pipeline: Any, X: pd.DataFrame) -> None:
    import mlflow
    import skops.io
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    skops.io.dump(pipeline, folder / "model.skops")
    mlflow.sklearn.save_model(
        pipeline,
        folder / "mlflow",
        serialization_format="skops",
        skops_trusted_types=skops.io.get_untrusted_types(file=folder / "model.skops"),
        signature=infer_signature(X),
        pip_requirements=[],
    )
    onnx = to_onnx(
        pipeline,
        initial_types=[("numeric", FloatTensorType([None, len(COLUMNS)]))],
        options={id(pipeline): {"zipmap": False}},
    ).SerializeToString()
    (folder / "bundle").mkdir()
    (folder / "bundle" / "model.onnx").write_bytes(onnx)
    manifest = {
        "format_version": 1,
        "feast_project": "bench",
        "registered_model_name": "bench",
        "run_id": "",
        "created_at": datetime.now(UTC).isoformat(),
        "task": "classification",
        "label": {"name": "label", "classes": [0, 1]},
        "entity_keys": [{"name": "user_id", "dtype": "int64", "example": 1}],
        "features": [_feature(view, name) for view in VIEWS for name in FEATURES],
        "model": {
            "file": "model.onnx",
            "format": "onnx",
            "inputs": [{"name": "numeric", "type": "float", "columns": COLUMNS}],
        },
        "files": {"model.onnx": hashlib.sha256(onnx).hexdigest()},
    }
    (folder / "bundle" / "serving.json").write_text(json.dumps(manifest))


def _feature(view: str, name: str) -> dict[str, Any]:
    from contract.feast_format import field_hash

    return {
        "name": f"{view}__{name}",
        "view": view,
        "feature": name,
        "dtype": "float64",
        "join_keys": ["user_id"],
        "ttl_seconds": TTL.total_seconds(),
        "redis_field": field_hash(view, name).hex(),
    }
