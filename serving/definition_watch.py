"""Whether the online store's values are of the definitions that the model was trained on.

`runner materialize` notes beside each view which definitions its values have. Values of another one
are read all the same, for nobody has others; they are marked `changed`, and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from contract.bundle import Bundle
from contract.serving_errors import ServingError
from contract.view_state import DIGESTS, is_changed, stored_digests
from serving.champion_watch import ChampionWatch
from serving.features.materialization import view_states
from serving.features.online_client import OnlineStoreClient
from serving.loaded import Loaded
from serving.logs import log
from serving.metrics import Metrics

_SECONDS, _SECONDS_AFTER_FAILURE = 1.0, 30.0


class DefinitionWatch:
    """Keeps the features of the model that answers marked, by what the online store says."""

    def __init__(
        self, champion: ChampionWatch, online_store: OnlineStoreClient, metrics: Metrics
    ) -> None:
        self._champion = champion
        self._online = online_store
        self._metrics = metrics
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look, and begin to look again and again."""
        await self._look()
        self._watch = asyncio.create_task(self._watch_store())

    async def stop(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    async def _watch_store(self) -> None:
        answered = True
        while True:
            await asyncio.sleep(_SECONDS if answered else _SECONDS_AFTER_FAILURE)
            answered = await self._look()

    async def _look(self) -> bool:
        """Return whether the online store answered."""
        if not self._champion.ready:
            return True
        loaded = self._champion.current
        bundle = loaded.bundle
        views = (feature.view for feature in bundle.features if feature.definition is not None)
        states = await view_states(self._online, bundle.feast_project, views, DIGESTS)
        if any(isinstance(state, ServingError) for state in states.values()):
            return False  # what was known goes on; requests say that the store is away
        now = _changed(bundle, states)
        before = loaded.online.changed
        loaded.online.changed = now
        self._metrics.changed_features = len(now)
        if now != before:
            _say(loaded, now)
        return True


def _changed(bundle: Bundle, states: Mapping[str, object]) -> frozenset[int]:
    """Return the positions of the features whose values are of another definition."""
    known = {view: stored_digests(digests) for view, digests in states.items()}
    return frozenset(
        position
        for position, feature in enumerate(bundle.features)
        if is_changed(known.get(feature.view), feature.feature, feature.definition)
    )


def _say(loaded: Loaded, changed: frozenset[int]) -> None:
    if not changed:
        log("info", "the online store has the features that this model was trained on again")
        return
    log(
        "error",
        "the online store has other features than this model was trained on",
        features=", ".join(loaded.bundle.features[position].name for position in sorted(changed)),
        hint="promote a version that was trained on them, or bring the former definition back",
    )
