"""Import heavy modules while something else runs."""

from __future__ import annotations

import gc
import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def let_threads_sleep() -> None:
    """Keep OpenMP's idle threads from spinning; to be called before scikit-learn is imported."""
    # By default they spin while they wait for each other: gradient boosting on 86,553 rows took
    # 57 s on a busy machine, 7 s with this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def importing(*modules: str) -> Iterator[None]:
    """Import `modules` in the background while the body runs, and wait for them after it."""

    def work() -> None:
        # Modules are no garbage: looking for some among them is a sixth of the imports' CPU, and
        # slows each later collection.
        gc.disable()
        try:
            for module in modules:
                importlib.import_module(module)
            gc.freeze()
        finally:
            gc.enable()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join()
