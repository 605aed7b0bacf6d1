"""Whether the process got no CPU for a while, as between requests on Cloud Run or on a laptop.

The event loop counts half seconds. Where it missed some, whatever it should have done meanwhile was
not done, and the clock alone does not say so: the timers that are late run after the first request.
"""

from __future__ import annotations

import asyncio
import time

_TICK_SECONDS = 0.5
_STALL_SECONDS = 1.5
"""A busy event loop is late by milliseconds."""


class Stalls:
    """Notes when the event loop stood still."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._stalled = False

    async def watch(self) -> None:
        """Count, until cancelled."""
        self._seen = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._note()

    def take(self) -> bool:
        """Return whether it stood still since this was last asked."""
        self._note()
        stalled, self._stalled = self._stalled, False
        return stalled

    def _note(self) -> None:
        now = time.monotonic()
        self._stalled = self._stalled or now - self._seen > _STALL_SECONDS
        self._seen = now
