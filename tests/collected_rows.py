"""Rows of the table `predictions`, as `runner collect` would write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from runner.collecting.served_rows import PREDICTIONS
from runner.warehouse.collected_table import CollectedRow


def collected_row(
    number: int,
    served_at: datetime,
    label: str,
    keys: Mapping[str, int],
    features: Mapping[str, float] | None = None,
) -> CollectedRow:
    """Return a row of server `s1` with this number."""
    known: dict[str, str | int | float | datetime | None] = {
        "served_at": served_at,
        "server_id": "s1",
        "server_row": number,
        "request_id": f"r{number}",
        "request_row": 0,
        "model_name": f"{label}_model",
        "model_version": "3",
        "label": label,
        "entity_keys": json.dumps(dict(keys)),
        "features": json.dumps(dict(features or {})),
        "statuses": "{}",
        "event_times": "{}",
        "definitions": "{}",
        "bundle_sha256": "b1",
        "prediction": "1",
        "probabilities": '{"0": 0.25, "1": 0.75}',
        "log_share": 1.0,
        "answered_as": "answer",
    }
    return [known.get(column.name) for column in PREDICTIONS.columns]
