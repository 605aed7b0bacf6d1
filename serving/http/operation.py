"""The endpoints for whoever operates the server: health, readiness, model, metrics and docs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any, TypedDict

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from serving.champion_watch import ChampionWatch
from serving.features.materialization import Freshness, freshness
from serving.features.online_client import OnlineStoreClient
from serving.http import docs_page
from serving.http.guard import Lifecycle
from serving.metrics import Metrics
from serving.shadow import Shadow

_AGES_WITHIN_SECONDS = 0.5


class State(TypedDict):
    """What the endpoints share, as `request.state`."""

    champion: ChampionWatch
    shadow: Shadow | None
    online_store: OnlineStoreClient
    metrics: Metrics
    lifecycle: Lifecycle
    ready_needs_features: bool


class Health(BaseModel):
    """The process is alive."""

    status: str


class Readiness(BaseModel):
    """Whether requests should be sent here, and what is in the way.

    `features_stale`: most features of the recent rows are missing or expired. `features_changed`:
    some are of another definition than the model was trained on.
    """

    ready: bool
    model: bool
    online_store: bool
    features_stale: bool
    features_changed: bool
    draining: bool


class ModelInfo(BaseModel):
    """The model that answers now. `refused_version` failed its check and is not used."""

    name: str
    version: str
    run_id: str
    task: str
    label: dict[str, Any]
    format: str
    entity_keys: list[dict[str, Any]]
    features: list[dict[str, Any]]
    request: list[dict[str, Any]]
    computed: list[dict[str, Any]]
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    versions: dict[str, Any]
    created_at: str
    loaded_at: str
    bundle_sha256: str
    refused_version: str | None


def add_operation(app: FastAPI) -> None:
    """Add the endpoints; they find a `State` in `request.state`."""
    app.get("/health", tags=["operation"], summary="Is the process alive?")(health)
    app.get(
        "/ready",
        tags=["operation"],
        summary="Should requests be sent here?",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not now."}},
    )(ready)
    for path, probe in (("/health", health), ("/ready", ready)):
        app.head(path, include_in_schema=False)(probe)  # some monitors ask so
    app.get("/model", tags=["operation"], summary="Which model answers?")(model)
    app.get("/metrics", include_in_schema=False)(prometheus)
    app.get("/docs", include_in_schema=False)(docs)
    app.get("/docs/assets/{name}", include_in_schema=False)(docs_asset)


async def health() -> Health:
    """Answer as long as the process lives."""
    return Health(status="ok")


async def ready(request: Request) -> JSONResponse:
    """Answer 200 when a model is loaded, the online store answers and no shutdown is under way.

    Where the settings say so, the online store must also have the model's features.
    """
    state = request.state
    recent = state.metrics.recent
    changed = state.metrics.changed_features > 0
    unfit = state.ready_needs_features and (recent.keeps_away or changed)
    draining = state.lifecycle.draining
    model_ready, store_ready = state.champion.ready, await state.online_store.ping()
    readiness = Readiness(
        ready=model_ready and store_ready and not draining and not unfit,
        model=model_ready,
        online_store=store_ready,
        features_stale=recent.stale,
        features_changed=changed,
        draining=draining,
    )
    return JSONResponse(readiness.model_dump(), 200 if readiness.ready else 503)


async def model(request: Request) -> ModelInfo:
    """Return the model that answers now, with the recipe, metrics and lineage of its training."""
    champion: ChampionWatch = request.state.champion
    loaded = champion.current
    bundle = loaded.bundle
    return ModelInfo(
        name=loaded.name,
        version=loaded.version.version,
        run_id=bundle.run_id,
        task=bundle.task,
        label=asdict(bundle.label),
        format=bundle.model.format,
        entity_keys=[asdict(key) for key in bundle.entity_keys],
        features=[
            asdict(feature) | {"redis_field": feature.redis_field.hex()}
            for feature in bundle.features
        ],
        request=[asdict(given) for given in bundle.request],
        computed=[asdict(column) for column in bundle.computed],
        recipe=bundle.recipe,
        metrics=bundle.metrics,
        lineage=bundle.lineage,
        versions=bundle.versions,
        created_at=bundle.created_at,
        loaded_at=loaded.loaded_at.isoformat(),
        bundle_sha256=bundle.digest,
        refused_version=champion.refused[0].version if champion.refused else None,
    )


async def prometheus(request: Request) -> Response:
    """Return Prometheus metrics."""
    state = request.state
    if state.shadow is not None and state.shadow.watch.ready:
        shadow = state.shadow.watch.current
        state.metrics.shadow_model = (shadow.name, shadow.version.version)
    if state.champion.ready:
        bundle = state.champion.current.bundle
        try:  # the other metrics matter most while the online store hangs
            async with asyncio.timeout(_AGES_WITHIN_SECONDS):
                found = await freshness(state.online_store, bundle, time.time())
        except TimeoutError:
            found = Freshness()
        state.metrics.freshness = found
    return Response(state.metrics.exposition(), media_type="text/plain; version=0.0.4")


async def docs() -> HTMLResponse:
    """Return the interactive documentation."""
    return HTMLResponse(docs_page.HTML)


async def docs_asset(name: str) -> FileResponse:
    """Return one of Swagger UI's files."""
    if name not in docs_page.ASSETS:
        raise HTTPException(404)
    return FileResponse(docs_page.assets_folder() / name)
