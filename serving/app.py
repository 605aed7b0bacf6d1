"""The FastAPI app: one straight line from request to prediction, and what surrounds it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, TypedDict

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route

from contract.model_registry import open_source
from contract.redis_address import RedisAddress
from contract.serving_settings import Limits, ServingSettings
from serving.admission import Asked
from serving.batches import Batches, Record
from serving.champion_watch import ChampionWatch
from serving.definition_watch import DefinitionWatch
from serving.event_log import EventLog
from serving.features.materialization import Freshness, freshness
from serving.features.online_client import OnlineStoreClient
from serving.http import docs_page
from serving.http.api_keys import ApiKeys
from serving.http.connections import Connections
from serving.http.events import EventsEndpoint, PushEndpoint
from serving.http.guard import EVENTS, PUSH, Lifecycle, RequestGuard
from serving.http.openapi import describe_predict
from serving.http.openapi_events import describe_events
from serving.http.predict import PredictEndpoint
from serving.http_errors import HttpError
from serving.loaded import Loaded
from serving.logs import AccessLog
from serving.metrics import Metrics
from serving.serving_log import ServingLog
from serving.shadow import Shadow, shadow_limits

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


def create_app(
    champion: ChampionWatch,
    online_store: OnlineStoreClient,
    metrics: Metrics,
    *,
    limits: Limits,
    log: ServingLog | None = None,
    shadow: Shadow | None = None,
    events: EventLog | None = None,
    api_keys: Sequence[str] = (),
    event_keys: Sequence[str] = (),
    lifecycle: Lifecycle,
    ready_needs_features: bool = False,
) -> RequestGuard:
    """Return the app; its lifespan connects to the online store and watches the registry."""
    access_log = AccessLog()
    definitions = DefinitionWatch(champion, online_store, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        await online_store.start()
        if log is not None:
            log.start()
        champion.start()
        await definitions.start()
        if shadow is not None:
            await shadow.start()
        yield State(
            champion=champion,
            shadow=shadow,
            online_store=online_store,
            metrics=metrics,
            lifecycle=lifecycle,
            ready_needs_features=ready_needs_features,
        )
        if shadow is not None:
            await shadow.stop()
        await definitions.stop()
        await champion.stop()
        if log is not None:
            await log.stop()
        if events is not None:
            await events.stop()
        await online_store.stop()
        access_log.flush()

    app = FastAPI(title="Prediction API", lifespan=lifespan, docs_url=None, redoc_url=None)
    record = _record(log, shadow) if log is not None else None
    predict = PredictEndpoint(champion, online_store, metrics, limits, record)
    app.router.routes.append(Route("/predict", predict, methods=["POST"]))
    if events is not None:
        shared = (events, predict.uploads, metrics, limits)
        takes_events, takes_rows = EventsEndpoint(*shared), PushEndpoint(*shared)
        app.router.routes += [
            Route(f"{EVENTS}{{table}}", takes_events, methods=["POST"]),
            Route(f"{PUSH}{{view}}", takes_rows, methods=["POST"]),
        ]
    _add_endpoints(app)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _leave_to_guard)

    def openapi() -> dict[str, Any]:
        document = get_openapi(title=app.title, version="1", routes=app.routes)
        bundle = champion.current.bundle
        describe_predict(document, bundle, limits.rows, secured=bool(api_keys))
        if events is not None:
            describe_events(document, limits.rows, secured=bool(event_keys))
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend it
    return RequestGuard(
        app,
        keys=ApiKeys(api_keys),
        writers=None if events is None else ApiKeys(event_keys),
        metrics=metrics,
        access_log=access_log,
        lifecycle=lifecycle,
        connections=Connections(limits, metrics),
        endpoints={("POST", "/predict"): predict},
    )


def _record(log: ServingLog, shadow: Shadow | None) -> Record:
    """Return what takes answered requests: a sample goes to the log, the same one to the shadow."""

    def record(loaded: Loaded, now: float, answered: Sequence[Asked]) -> None:
        logged = log.sample(answered)
        log.note(loaded, now, logged)
        if shadow is not None:
            shadow.note(logged)

    return record


def app_from_env() -> RequestGuard:
    """Return the app of the environment's settings, for `uvicorn --factory`."""
    settings = ServingSettings.from_env(os.environ)
    return build(settings, Lifecycle())


def build(settings: ServingSettings, lifecycle: Lifecycle) -> RequestGuard:
    """Return the app with its model loaded.

    Raises
    ------
    ServingError
        If the model cannot be found or loaded.
    """
    metrics = Metrics()
    source = open_source(settings.model_uri, settings.tracking_uri, os.environ)
    champion = ChampionWatch(source, metrics, settings.reload_seconds)
    champion.refresh()
    address = RedisAddress.from_url(settings.redis_url)
    online_store = OnlineStoreClient(address, settings.redis_seconds)
    log = ServingLog(address, metrics, settings.log) if settings.log.share else None
    takes_events = settings.event_keys or not settings.api_keys
    return create_app(
        champion,
        online_store,
        metrics,
        limits=settings.limits,
        log=log,
        shadow=_shadow(settings, online_store, metrics, log) if log else None,
        events=EventLog(address, champion) if takes_events else None,
        api_keys=settings.api_keys,
        event_keys=settings.event_keys,
        lifecycle=lifecycle,
        ready_needs_features=settings.ready_needs_features,
    )


def _shadow(
    settings: ServingSettings, online_store: OnlineStoreClient, metrics: Metrics, log: ServingLog
) -> Shadow | None:
    if not settings.shadow.model_uri:
        return None
    source = open_source(settings.shadow.model_uri, settings.tracking_uri, os.environ)
    unseen = Metrics()
    watch = ChampionWatch(source, unseen, settings.reload_seconds, "shadow model")
    definitions = DefinitionWatch(watch, online_store, unseen)
    limits = shadow_limits(settings.limits)
    batches = Batches(watch, online_store, unseen, limits, partial(log.note, is_shadow=True))
    return Shadow(watch, definitions, batches, metrics, settings.shadow.share)


def _http_error(_request: Request, err: Exception) -> Response:
    """Turn the router's refusal into one of ours, which the guard answers."""
    assert isinstance(err, HTTPException)  # noqa: S101 - registered for it
    raise HttpError(err.status_code, err.headers or {}) from err


async def _leave_to_guard(_request: Request, err: Exception) -> Response:
    """Keep Starlette from answering in its own words."""
    raise err


def _add_endpoints(app: FastAPI) -> None:
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
