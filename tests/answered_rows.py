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
from tests.collected_rows import collected_row

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
        own = {
            "model_name": MODEL,
            "model_version": "1",
            "run_id": RUN,
            "statuses": json.dumps(statuses or {}),
            "event_times": json.dumps({"activity": (served_at - timedelta(hours=2)).isoformat()}),
            "prediction": str(int(positive >= 0.5)),
            "probabilities": json.dumps({"0": 1 - positive, "1": positive}),
        }
        yield collected_row(number, served_at, "y", {"user_id": number}, values, **(own | changes))


def write(settings: Settings, rows: Sequence[Sequence[Any]]) -> None:
    """Append rows to the table of predictions."""
    with open_collected(settings, PREDICTIONS) as store:
        assert store.append(rows) == len(rows)
