"""POST /predict: entity rows in, predictions out, in the shortest way that is still safe.

`begin` takes a request that has come whole, without a task of its own; the ASGI endpoint takes
every other, such as a slow upload. `serving.http.openapi` describes both from the same bundle that
they answer from.
"""

from __future__ import annotations

import asyncio
from typing import Any

from contract.serving_settings import Limits
from serving.batches import Batches, Record
from serving.champion_watch import ChampionWatch
from serving.features.online_client import OnlineStoreClient
from serving.http.asgi import Receive, Scope, Send, caller_of, json_answer, send_answer
from serving.http.uploads import Uploads, check_size, require_json
from serving.metrics import Metrics


class PredictEndpoint:
    """Answers `POST /predict`.

    Attributes
    ----------
    uploads
        The bodies that come in; other endpoints share its limits.
    """

    def __init__(
        self,
        champion: ChampionWatch,
        online: OnlineStoreClient,
        metrics: Metrics,
        limits: Limits,
        record: Record | None = None,
    ) -> None:
        self._batches = Batches(champion, online, metrics, limits, record)
        self._limits = limits
        self.uploads = Uploads(self._batches.admission, metrics, limits)

    def begin(self, scope: Scope, body: bytes) -> asyncio.Future[dict[str, Any]]:
        """Return the future of the answer's content; raises ServingError, as the future may."""
        require_json(scope)
        check_size(len(body), self._limits)
        return self._batches.predict(body, caller_of(scope))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a request within the limits, and answer it."""
        async with self.uploads.whole(scope, receive) as body:
            content = await self._batches.predict(body, caller_of(scope))
        await send_answer(send, json_answer(200, content))
