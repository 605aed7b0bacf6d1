"""What a materialization leaves in Redis about itself, besides the features.

A hash per feature view. Its field `watermark` is the JSON of the last complete run, with `as_of`,
the instant that was materialized, and `newest`, the newest event time then; `compared` is the last
run that compared every entity, where this one only followed new rows. Its field `digests`
says which definitions the values have: of each feature one digest or several, for the same SQL has
another one by another version of sqlglot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import getitem

WATERMARK = "watermark"
DIGESTS = "digests"

FeatureDigests = Mapping[str, Sequence[str]]
"""By feature: the digests of the definition that its values have."""


def state_key(project: str, view: str) -> str:
    """Return the name of the hash of a view in a Feast project."""
    return f"runner:materialize:{project}:{view}"


def materialized_at(watermark: object) -> float | None:
    """Return the instant that a watermark is of, in Unix seconds; None if it cannot be read."""
    return _instant(watermark, "as_of")


def compared_at(watermark: object) -> float | None:
    """Return when every entity was compared with its mart, in Unix seconds; None: not known."""
    return _instant(watermark, "compared", "as_of") or materialized_at(watermark)


def newest_at(watermark: object) -> float | None:
    """Return the newest event time that a watermark knows, in Unix seconds; None: none."""
    return _instant(watermark, "newest")


def _instant(watermark: object, *path: str) -> float | None:
    if not isinstance(watermark, bytes):
        return None
    try:
        return datetime.fromisoformat(reduce(getitem, path, json.loads(watermark))).timestamp()
    except (ValueError, KeyError, TypeError):  # or an earlier version did not note it
        return None


def stored_digests(content: object) -> FeatureDigests | None:
    """Return what `DIGESTS` holds; None where nothing is known."""
    if not isinstance(content, bytes):
        return None
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_changed(known: FeatureDigests | None, feature: str, digest: str | None) -> bool:
    """Return whether a feature's stored values are of another definition than `digest`.

    What is not known, of the values or of the model, is no change.
    """
    return known is not None and digest is not None and digest not in known.get(feature, (digest,))
