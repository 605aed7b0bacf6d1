"""How long ago each view was materialized, as the online store itself says."""

from __future__ import annotations

import hiredis

from contract.bundle import Bundle
from contract.view_state import WATERMARK, materialized_at, state_key
from serving.features.online_client import OnlineStoreClient


async def materialized_ages(
    online_store: OnlineStoreClient, bundle: Bundle, now: float
) -> dict[str, float]:
    """Return seconds by view; without the views whose age the store does not have."""
    views = list(dict.fromkeys(feature.view for feature in bundle.features))
    commands = [
        hiredis.pack_command(("HMGET", state_key(bundle.feast_project, view), WATERMARK))
        for view in views
    ]
    ages = {}
    for view, reply in zip(views, await online_store.read(commands), strict=True):
        at = materialized_at(reply[0]) if isinstance(reply, list) else None
        if at is not None:
            ages[view] = max(0.0, now - at)
    return ages
