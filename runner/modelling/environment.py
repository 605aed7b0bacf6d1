"""What beside code, SQL and data may change a result: Python, the machine, libraries, threads."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = (
    *("dbt-core", "feast", "pyarrow", "pandas", "numpy", "scipy", "joblib", "threadpoolctl"),
    *("scikit-learn", "mlflow"),
)
# Packages of the extras; XGBoost has two, of which one is installed.
_EXTRAS = ("lightgbm", "xgboost", "xgboost-cpu")


def environment() -> dict[str, str]:
    """Return the versions and the number of threads that this process computes with, by name."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count()),
        "runner": version("recipe-runner"),
        **{name: version(name) for name in _LIBRARIES},
        **extras(),
    }


def extras(class_path: str = "") -> dict[str, str]:
    """Return package → version of the extras that are installed, or of an estimator's own."""
    found = {}
    for name in _EXTRAS:
        if not class_path or name.partition("-")[0] == class_path.partition(".")[0]:
            with suppress(PackageNotFoundError):
                found[name] = version(name)
    return found
