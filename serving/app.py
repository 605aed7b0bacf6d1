"""The FastAPI app: one straight line from request to prediction, and what surrounds it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
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
from serving.features.online_client import OnlineStoreClient
from serving.http.api_keys import ApiKeys
from serving.http.connections import Connections
from serving.http.events import EventsEndpoint, PushEndpoint
from serving.http.guard import EVENTS, PUSH, Lifecycle, RequestGuard
from serving.http.openapi import describe_predict
from serving.http.openapi_events import describe_events
from serving.http.operation import State, add_operation
from serving.http.predict import PredictEndpoint
from serving.http_errors import HttpError
from serving.loaded import Loaded
from serving.logs import AccessLog
from serving.metrics import Metrics
from serving.serving_log import ServingLog
from serving.shadow import Shadow, shadow_limits


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
    state = State(
        champion=champion,
        shadow=shadow,
        online_store=online_store,
        metrics=metrics,
        lifecycle=lifecycle,
        ready_needs_features=ready_needs_features,
    )
    app = FastAPI(
        title="Prediction API",
        lifespan=_lifespan(state, log, events, access_log),
        docs_url=None,
        redoc_url=None,
    )
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
    add_operation(app)
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


def _lifespan(
    state: State, log: ServingLog | None, events: EventLog | None, access_log: AccessLog
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """Return what starts the parts of the app, yields what its endpoints share, and stops them."""
    champion, online_store, shadow = state["champion"], state["online_store"], state["shadow"]
    definitions = DefinitionWatch(champion, online_store, state["metrics"])

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        await online_store.start()
        if log is not None:
            log.start()
        champion.start()
        await definitions.start()
        if shadow is not None:
            await shadow.start()
        yield state
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

    return lifespan


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
