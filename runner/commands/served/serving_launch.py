"""Hand over from `runner serve` to the prediction API."""

from __future__ import annotations

import os
import sys

import redis

from runner import console
from runner.commands.served.event_collection import publish_event_tables
from runner.errors import RunnerError
from runner.settings import Settings


def serve(settings: Settings, name: str, host: str | None, port: int | None) -> None:
    """Become the prediction API of the registered model's champion; does not return.

    Without a host or port the environment's `SERVING_HOST` and `SERVING_PORT` say where.

    The process is replaced, so nothing that runner imported stays in the server's memory.
    """
    try:
        publish_event_tables(settings)
    except redis.RedisError as err:  # the server starts without it too
        console.note(f"events: Redis does not answer ({err}); `runner collect` tries again")
    except RunnerError as err:
        console.note(f"events: {err.message}; `runner collect` says more")
    env = {
        **settings.env,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "SERVING_MODEL": f"models:/{name}@champion",
    }
    if host is not None:
        env["SERVING_HOST"] = host
    if port is not None:
        env["SERVING_PORT"] = str(port)
    os.execve(sys.executable, [sys.executable, "-m", "serving"], env)  # noqa: S606  (no shell)
