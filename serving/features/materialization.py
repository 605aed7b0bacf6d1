"""What materializations and refreshes left about themselves in the online store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import hiredis

from contract.bundle import Bundle
from contract.refresh_times import DONE, FAILED, done_at, refresh_key
from contract.view_state import WATERMARK, compared_at, materialized_at, newest_at, state_key
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


@dataclass(frozen=True)
class Freshness:
    """How fresh the online store is, in seconds; without what it does not know.

    Attributes
    ----------
    materialized
        By view, in each of its roles: since the last complete materialization.
    compared
        Likewise: since every entity was compared with its mart.
    newest
        Likewise: since the newest event time that it copied.
    refreshed
        Since the last round of `runner refresh` that succeeded; None: no round is known.
    is_failing
        Whether the last round failed.
    """

    materialized: Mapping[str, float] = field(default_factory=dict)
    compared: Mapping[str, float] = field(default_factory=dict)
    newest: Mapping[str, float] = field(default_factory=dict)
    refreshed: float | None = None
    is_failing: bool = False


async def freshness(online_store: OnlineStoreClient, bundle: Bundle, now: float) -> Freshness:
    """Return how fresh the views are that a model reads."""
    views = {feature.projection: feature.view for feature in bundle.features}
    states = await view_states(online_store, bundle.feast_project, views.values(), WATERMARK)
    command = ("HMGET", refresh_key(bundle.feast_project), DONE, FAILED)
    [reply] = await online_store.read([hiredis.pack_command(command)])
    done, failed = reply if isinstance(reply, list) else (None, None)
    refreshed = done_at(done)
    materialized, compared, newest = (
        _ages(now, {name: instant_of(states[view]) for name, view in views.items()})
        for instant_of in (materialized_at, compared_at, newest_at)
    )
    return Freshness(
        materialized,
        compared,
        newest,
        None if refreshed is None else max(0.0, now - refreshed),
        failed is not None,
    )


def _ages(now: float, instants: Mapping[str, float | None]) -> dict[str, float]:
    return {view: max(0.0, now - at) for view, at in instants.items() if at is not None}
