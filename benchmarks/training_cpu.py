"""CPU time of `runner train`, step by step, and of importing what it needs.

    python -m benchmarks.training_cpu recipes/rf.yaml

Trains the recipe of the project it is called in, as `runner train` does, and prints JSON: a line of
progress → CPU seconds of this process from the line before. Everything that training imports is
imported first. `benchmarks.commands` calls it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner import console
from runner.commands.training.background_imports import importing, let_threads_sleep
from runner.commands.training.training import train
from runner.settings import load_settings
from runner.unchecked_feast import leave_feast_unchecked

IMPORTS = (
    *("feast.infra.offline_stores.contrib.postgres_offline_store.postgres", "matplotlib.figure"),
    *("mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "onnxruntime", "pyarrow.parquet"),
    *("skl2onnx", "sklearn.ensemble", "sklearn.inspection", "sklearn.pipeline", "skops.io"),
)
"""What any training with Feast, scikit-learn, MLflow and ONNX imports."""
FIT = "fit"
IMPORTING = "import"


def main() -> None:
    leave_feast_unchecked()
    let_threads_sleep()
    acts: dict[str, float] = {}
    before = 0.0

    def end(name: str) -> None:
        nonlocal before
        now = time.process_time()
        acts[name], before = acts.get(name, 0.0) + now - before, now

    with importing("runner.commands.training.training_acts"):
        pass
    end(IMPORTING)
    show = console.step

    @contextmanager
    def step(description: str) -> Iterator[console.Step]:
        is_fit = ": fit " in description
        if is_fit:
            end("tune")
        with show(description) as shown:
            yield shown
        end(FIT if is_fit else description)

    console.step = step
    train(load_settings(None), Path(sys.argv[1]))
    end("the rest")
    sys.stdout.write(json.dumps(acts))


if __name__ == "__main__":
    main()
