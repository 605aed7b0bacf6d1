"""Hand over from `runner serve` to the prediction API."""

from __future__ import annotations

import os
import sys

from runner.settings import Settings


def serve(settings: Settings, name: str, host: str, port: int) -> None:
    """Become the prediction API of the registered model's champion; does not return.

    The process is replaced, so nothing that runner imported stays in the server's memory.
    """
    env = {
        **settings.env,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "SERVING_MODEL": f"models:/{name}@champion",
        "SERVING_HOST": host,
        "SERVING_PORT": str(port),
    }
    os.execve(sys.executable, [sys.executable, "-m", "serving"], env)  # noqa: S606  (no shell)
