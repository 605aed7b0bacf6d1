"""MLflow's SQLite file without a run, made once per process: its migrations take seconds."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from mlflow import MlflowClient


def put_mlflow_database(root: Path) -> None:
    """Put the file where the project in `root` has it."""
    folder = root / "mlruns"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(_content())


@cache
def _content() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="runner-mlflow-"))
    made = folder / "made.db"
    MlflowClient(f"sqlite:///{made}").search_experiments()
    whole = folder / "whole.db"
    with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(whole)) as target:
        source.backup(target)  # with what is in its write-ahead log
    content = whole.read_bytes()
    shutil.rmtree(folder)
    return content
