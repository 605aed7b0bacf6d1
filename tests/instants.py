"""The tests' now."""

from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


def at(hours: float) -> datetime:
    """Return the instant `hours` before (negative) or after NOW."""
    return NOW + timedelta(hours=hours)
