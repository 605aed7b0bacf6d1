"""Names for our own relations that no source's SQL can take for one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def alias_suffix(sources: Sequence[str]) -> str:
    """Return what to add to our names in a query that holds `sources`.

    A common table expression hides a table of its name from all SQL below it. No text holds its own
    digest, in whatever case, quotes or escapes it writes names.
    """
    return "_" + sha256("\0".join(sources).encode()).hexdigest()[:12]
