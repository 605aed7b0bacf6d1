"""Hand over from `runner serve` to the prediction API."""

from __future__ import annotations

import os
import sys

from runner.settings import Settings


def serve(settings: Settings, name: str, host: str | None, port: int | None) -> None:
    """Become the prediction API of the registered model's champion; does not return.

    Without a host or port the environment's `SERVING_HOST` and `SERVING_PORT` say where.

    The process is replaced, so nothing that runner imported stays in the server's memory.
    """
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
