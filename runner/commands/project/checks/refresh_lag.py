"""How fresh the features are that `runner refresh` keeps; see `doctor.py`."""

from __future__ import annotations

from runner.errors import RunnerError
from runner.settings import Settings


def refresh_at_hand(settings: Settings) -> str:
    """Return the features' age and the last round; empty if no round is known."""
    from redis.exceptions import RedisError

    from runner.online.connection import connect
    from runner.online.online_config import load_online_config
    from runner.online.refresh_state import RefreshState

    try:
        config = load_online_config(settings)
        with connect(settings, config) as connection:
            return RefreshState(connection, config.project).times().lag()
    except (RunnerError, RedisError):
        return ""
