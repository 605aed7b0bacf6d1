"""The model that answers now, and the watch that replaces it when the alias moves.

A new version is fetched, checked and tried in a worker thread; only then do new requests see it.
Requests under way keep the model they began with. A version whose bundle fails its check is
refused, remembered and not tried again; the old one keeps serving.

While the process gets no CPU the watch sleeps too. The first request after that has the source
looked at before it is answered.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from contract.model_registry import ModelVersion, Source
from contract.serving_errors import BundleError, RegistryError, ServingError
from serving.http_errors import ModelNotReadyError
from serving.loaded import Loaded, load
from serving.logs import log
from serving.metrics import Metrics
from serving.stalls import Stalls


class ChampionWatch:
    """Keeps the model of the source's current version.

    Parameters
    ----------
    seconds
        How often the source is asked; 0 = never again once a model is loaded.
    what
        What the log calls it.
    """

    def __init__(
        self, source: Source, metrics: Metrics, seconds: float, what: str = "model"
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._seconds = seconds
        self._what = what
        self._loaded: Loaded | None = None
        self._failing = ""
        self._refreshing = threading.Lock()
        self._stalls = Stalls()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly
        self.refused: tuple[ModelVersion, str] | None = None
        """The version that failed its check, and why; None once another one is loaded."""

    @property
    def ready(self) -> bool:
        """Whether a model is loaded."""
        return self._loaded is not None

    @property
    def current(self) -> Loaded:
        """The model to answer with. Raises ModelNotReadyError."""
        if self._loaded is None:
            raise ModelNotReadyError("no model is loaded yet")
        return self._loaded

    def refresh(self) -> None:
        """Load the source's current version unless it is loaded or was refused already.

        Raises
        ------
        ServingError
            If there is no such version, or its bundle cannot be fetched or fails its check.
        """
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        version = self._source.resolve()
        known = self._loaded.version if self._loaded else None
        refused = self.refused[0] if self.refused else None
        if version == known:
            self.refused = None  # the alias is back on what we serve
        if version in {known, refused}:
            return
        try:
            self._loaded = load(self._source, version)
        except BundleError as err:
            self.refused = (version, err.message)
            self._metrics.reload_failures += 1
            raise
        self.refused = None
        self._metrics.serve(self._loaded)
        log("info", f"{self._what} loaded", model=self._loaded.name, version=version.version)

    def start(self) -> None:
        """Begin to watch the source."""
        self._begin(self._watch_source())
        self._begin(self._stalls.watch())

    async def stop(self) -> None:
        """End the watch; a load under way is waited for."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def is_overdue(self) -> bool:
        """Return whether the watch stood still, with the process, since this was last asked."""
        return bool(self._seconds) and self._stalls.take()

    async def catch_up(self, seconds: float) -> None:
        """Look at the source now; after `seconds` the look goes on without the caller."""
        await asyncio.wait([self._begin(self._look())], timeout=seconds)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch_source(self) -> None:
        while not self.ready or self._seconds:
            await self._look()
            await asyncio.sleep(self._seconds or 1.0)

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
            self._failing = ""
        except ServingError as err:
            self._tell(err)
        except Exception as err:  # the watch must outlive whatever a registry sends
            self._tell(RegistryError(f"{type(err).__name__} while asking the registry"))

    def _tell(self, err: ServingError) -> None:
        if err.message != self._failing:  # once, not at every look
            log("error", f"{self._what} not loaded", reason=err.message, hint=err.hint)
            self._failing = err.message
