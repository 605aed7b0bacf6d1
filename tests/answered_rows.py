"""Rows of the serving log, made up and written as `runner collect` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from runner.collecting.served_rows import PREDICTIONS
from runner.settings import Settings
from runner.warehouse.open_collected import open_collected

RUN, MODEL = "run1", "m"
_numbers = iter(range(1, 10**9))


def answered(
    features: pa.Table,
    day: datetime,
    *,
    probabilities: Sequence[float] | None = None,
    statuses: Mapping[str, str] | None = None,
    **changes: Any,
) -> Iterator[list[Any]]:
    """Yield a row of the log per row of features, spread over a day; each has its own user.

    Parameters
    ----------
    statuses
        Feature → its status in every row.
    changes
        Other values of the log's columns.
    """
    for i, values in enumerate(features.to_pylist()):
        number = next(_numbers)
        positive = probabilities[i] if probabilities is not None else 0.5
        served_at = day + timedelta(days=1) * i / features.num_rows
        row = {
            "served_at": served_at,
            "server_id": "s1",
            "server_row": number,
            "request_id": f"r{number}",
            "request_row": 0,
            "model_name": MODEL,
            "model_version": "1",
            "run_id": RUN,
            "bundle_sha256": "b1",
            "label": "y",
            "entity_keys": json.dumps({"user_id": number}),
            "features": json.dumps(values),
            "statuses": json.dumps(statuses or {}),
            "event_times": json.dumps({"activity": (served_at - timedelta(hours=2)).isoformat()}),
            "definitions": "{}",
            "prediction": str(int(positive >= 0.5)),
            "probabilities": json.dumps({"0": 1 - positive, "1": positive}),
            "decision_threshold": None,
            "log_share": 1.0,
            "answered_as": "answer",
        }
        yield list((row | changes).values())


def write(settings: Settings, rows: Sequence[Sequence[Any]]) -> None:
    """Append rows to the table of predictions."""
    with open_collected(settings, PREDICTIONS) as store:
        assert store.append(rows) == len(rows)
