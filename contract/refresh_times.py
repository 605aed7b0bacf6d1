"""What `runner refresh` leaves in Redis about its rounds: a hash per Feast project.

`done` is when the last round that succeeded ended, in ISO 8601. `failed` is there if a later round
failed: a JSON list of when, and why.
"""

from __future__ import annotations

from datetime import datetime

DONE, FAILED = "done", "failed"


def refresh_key(project: str) -> str:
    """Return the name of the hash of a Feast project."""
    return f"runner:refresh:{project}"


def done_at(content: object) -> float | None:
    """Return what `DONE` holds, in Unix seconds; None if no round is known."""
    if not isinstance(content, bytes):
        return None
    try:
        return datetime.fromisoformat(content.decode()).timestamp()
    except ValueError:
        return None
