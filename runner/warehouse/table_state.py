"""What a table holds, as a digest that differs once anything in the table has changed."""

from __future__ import annotations

import hashlib


class UnknownStateError(Exception):
    """It cannot be known whether something has changed; the message says why."""


def state_digest(parts: object) -> str:
    """Return the digest of what is known of a table."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
