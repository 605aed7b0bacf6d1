"""What beside code, SQL and data may change a result: Python, the machine, libraries, threads."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from runner import __version__

_LIBRARIES = (
    *("dbt-core", "feast", "pyarrow", "pandas", "numpy", "scipy", "joblib", "threadpoolctl"),
    *("scikit-learn", "mlflow"),
)


def environment() -> dict[str, str]:
    """Return the versions and the number of threads that this process computes with, by name."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count()),
        "runner": __version__,
        **{name: version(name) for name in _LIBRARIES},
    }
