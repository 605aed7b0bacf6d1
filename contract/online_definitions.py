"""Which definitions the online store's values have: noted per view, beside its watermark.

A feature's values may be right for several digests: the same SQL has another one by another
version of sqlglot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

DIGESTS_FIELD = b"digests"

FeatureDigests = Mapping[str, Sequence[str]]
"""By feature: the digests of the definition that its values have."""


def state_key(project: str, view: str) -> str:
    """Return the name of the hash in which a view's watermark and digests are."""
    return f"runner:materialize:{project}:{view}"


def stored_digests(content: bytes | None) -> FeatureDigests | None:
    """Return what `DIGESTS_FIELD` holds; None where nothing is known."""
    if content is None:
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
