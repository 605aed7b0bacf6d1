"""The point-in-time join in plain Python: slow, obvious, sharing no code with the store.

Rules, as in docs/point-in-time.md: a feature row is visible to a spine row when every join key is
equal (NULL equals nothing), its event timestamp is not after the spine row's and not more than the
ttl before it, and it was created not after the spine row's timestamp. Of the visible rows the one
with the latest event timestamp wins, then the latest created timestamp, then the greatest feature
values in declared order, where NULL is smallest, NaN greatest, and text compares by code point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class View:
    """A feature view as the oracle sees it; `keys` maps spine column to feature column."""

    name: str
    keys: dict[str, str]
    features: list[str]
    ttl: timedelta | None
    created: str | None
    timestamp: str = "event_timestamp"


def join(spine: list[Row], views: list[tuple[View, list[Row]]]) -> list[Row]:
    """Return every spine row with the features of every view, `view__feature`."""
    answer = []
    for row in spine:
        joined = dict(row)
        for view, rows in views:
            winner = newest(row, view, rows)
            for feature in view.features:
                joined[f"{view.name}__{feature}"] = winner[feature] if winner else None
        answer.append(joined)
    return answer


def newest(row: Row, view: View, rows: list[Row]) -> Row | None:
    """Return the feature row that the spine row `row` sees."""
    seen = [candidate for candidate in rows if _sees(row, view, candidate)]
    if not seen:
        return None
    return max(seen, key=lambda candidate: _rank(view, candidate))


def _sees(row: Row, view: View, candidate: Row) -> bool:
    at: datetime | None = row["event_timestamp"]
    happened: datetime | None = candidate[view.timestamp]
    if at is None or happened is None:
        return False
    for spine_key, feature_key in view.keys.items():
        if row[spine_key] is None or row[spine_key] != candidate[feature_key]:
            return False
    if happened > at:
        return False
    if view.ttl is not None and at - happened > view.ttl:
        return False
    if view.created is None:
        return True
    created: datetime | None = candidate[view.created]
    return created is not None and created <= at


def _rank(view: View, candidate: Row) -> tuple[Any, ...]:
    created = candidate[view.created] if view.created else 0
    values = tuple(_order(candidate[feature]) for feature in view.features)
    return (candidate[view.timestamp], created, values)


def _order(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, float) and math.isnan(value):
        return (2, 0)
    return (1, value)
