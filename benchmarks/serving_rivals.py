"""The usual ways to serve, written as their documentation recommends: apps (a), (b) and (e).

    uvicorn benchmarks.serving_rivals:feast_sklearn      (a) FastAPI + Feast SDK + scikit-learn
    uvicorn benchmarks.serving_rivals:feast_onnx         (b) the same with ONNX Runtime
    uvicorn benchmarks.serving_rivals:constant           (e) FastAPI alone

Each is a factory; BENCH_FOLDER names what `benchmarks.serving` prepared.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Request(BaseModel):
    """Entity rows, as ours takes them."""

    entity_rows: list[dict[str, int]]


class Answer(BaseModel):
    """What every rival answers."""

    predictions: list[dict[str, Any]]


def feast_sklearn() -> FastAPI:
    """Return app (a)."""
    import skops.io

    folder = Path(os.environ["BENCH_FOLDER"])
    types = skops.io.get_untrusted_types(file=folder / "model.skops")
    pipeline = skops.io.load(folder / "model.skops", trusted=types)

    def score(frame: Any) -> tuple[list[int], list[float]]:
        return pipeline.predict(frame).tolist(), pipeline.predict_proba(frame)[:, 1].tolist()

    return _feast_app(folder, score)


def feast_onnx() -> FastAPI:
    """Return app (b)."""
    import numpy as np
    import onnxruntime

    folder = Path(os.environ["BENCH_FOLDER"])
    session = onnxruntime.InferenceSession(folder / "bundle" / "model.onnx")

    def score(frame: Any) -> tuple[list[int], list[float]]:
        labels, shares = session.run(None, {"numeric": frame.to_numpy(dtype=np.float32)})
        return labels.tolist(), shares[:, 1].tolist()

    return _feast_app(folder, score)


def _feast_app(folder: Path, score: Any) -> FastAPI:
    from feast import FeatureStore

    store = FeatureStore(folder / "feast")
    service = store.get_feature_service("bench")
    app = FastAPI()

    @app.post("/predict")
    def predict(request: Request) -> Answer:
        online = store.get_online_features(
            features=service, entity_rows=request.entity_rows, full_feature_names=True
        ).to_df()
        frame = online[sorted(online.columns.difference(["user_id"]))]
        labels, shares = score(frame)
        return Answer(
            predictions=[
                {"prediction": label, "probability": share}
                for label, share in zip(labels, shares, strict=True)
            ]
        )

    return app


def constant() -> FastAPI:
    """Return app (e)."""
    app = FastAPI()

    @app.get("/constant")
    async def answer() -> dict[str, str]:
        return {"status": "ok"}

    return app
