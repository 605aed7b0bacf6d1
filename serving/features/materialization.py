"""What the last materialization of each view left about itself in the online store."""

from __future__ import annotations

from collections.abc import Iterable

import hiredis

from contract.bundle import Bundle
from contract.view_state import WATERMARK, materialized_at, state_key
from serving.features.online_client import OnlineStoreClient


async def view_states(
    online_store: OnlineStoreClient, project: str, views: Iterable[str], field: str
) -> dict[str, object]:
    """Return one field of each view's state, or the store's error reply in its place."""
    names = list(dict.fromkeys(views))
    commands = [hiredis.pack_command(("HMGET", state_key(project, name), field)) for name in names]
    replies = await online_store.read(commands) if commands else []
    values = (reply[0] if isinstance(reply, list) else reply for reply in replies)
    return dict(zip(names, values, strict=True))


async def materialized_ages(
    online_store: OnlineStoreClient, bundle: Bundle, now: float
) -> dict[str, float]:
    """Return seconds by view; without the views whose age the store does not have."""
    views = (feature.view for feature in bundle.features)
    states = await view_states(online_store, bundle.feast_project, views, WATERMARK)
    instants = {view: materialized_at(watermark) for view, watermark in states.items()}
    return {view: max(0.0, now - at) for view, at in instants.items() if at is not None}
