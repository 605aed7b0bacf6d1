"""What `runner monitor` found, as an MLflow run below that of the champion's training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from runner.monitoring.served_log import Window
from runner.records.dead_runs import this_process
from runner.records.registry import connect
from runner.warehouse.figures_table import FigureRow

if TYPE_CHECKING:
    from runner.settings import Settings

_BATCH = 1_000  # metrics that MLflow takes at once
_LONGEST = 250  # characters of a metric's name


def record_monitoring(
    settings: Settings, window: Window, rows: Iterable[FigureRow], folder: Path
) -> str:
    """Record the figures of each day as steps of metrics, and the files of `folder`.

    Returns the run's id. A step is the number of days since 1970.
    """
    client = connect(settings)
    trained = client.get_run(window.run_id)
    now = datetime.now(UTC)
    run = client.create_run(
        trained.info.experiment_id,
        run_name=f"monitor {window.model} {window.version} {now:%Y-%m-%d %H:%M}",
        tags={
            MLFLOW_PARENT_RUN_ID: window.run_id,
            "monitored_model": window.model,
            "monitored_version": window.version,
            **this_process(),
        },
    )
    run_id: str = run.info.run_id
    try:
        metrics = [_metric(row) for row in rows]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        client.log_artifacts(run_id, str(folder))
    except BaseException:  # Ctrl-C too: an open run would look alive for ever
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def _metric(row: FigureRow) -> Metric:
    name = re.sub(r"[^\w.-]", "_", f"{row.kind}.{row.name}" if row.name else row.kind)[:_LONGEST]
    at = datetime.combine(row.day, time(), UTC)
    return Metric(name, row.value, int(at.timestamp() * 1000), row.day.toordinal() - _EPOCH)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal()
