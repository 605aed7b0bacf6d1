"""What a materialization leaves in Redis about itself, besides the features.

A hash per feature view. Its field `watermark` is the JSON of the last complete run, with `as_of`,
the instant that was materialized.
"""

from __future__ import annotations

import json
from datetime import datetime

WATERMARK = "watermark"


def state_key(project: str, view: str) -> str:
    """Return the name of the hash of a view in a Feast project."""
    return f"runner:materialize:{project}:{view}"


def materialized_at(watermark: object) -> float | None:
    """Return the instant that a watermark is of, in Unix seconds; None if it cannot be read."""
    if not isinstance(watermark, bytes):
        return None
    try:
        return datetime.fromisoformat(json.loads(watermark)["as_of"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None
