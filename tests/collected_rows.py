"""Rows of the table `predictions`, as `runner collect` would write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from runner.collecting.served_rows import PREDICTIONS


def collected_row(
    number: int,
    served_at: datetime,
    label: str,
    keys: Mapping[str, int],
    features: Mapping[str, Any],
    **changes: Any,
) -> list[Any]:
    """Return a row of server `s1` with this number.

    Parameters
    ----------
    changes
        Other values of the table's columns.
    """
    known: dict[str, Any] = {
        "served_at": served_at,
        "server_id": "s1",
        "server_row": number,
        "request_id": f"r{number}",
        "request_row": 0,
        "model_name": f"{label}_model",
        "model_version": "3",
        "label": label,
        "entity_keys": json.dumps(dict(keys)),
        "features": json.dumps(dict(features)),
        "statuses": "{}",
        "event_times": "{}",
        "definitions": "{}",
        "bundle_sha256": "b1",
        "prediction": "1",
        "probabilities": '{"0": 0.25, "1": 0.75}',
        "log_share": 1.0,
        "answered_as": "answer",
    }
    known |= changes
    columns = [column.name for column in PREDICTIONS.columns]
    assert known.keys() <= set(columns)
    return [known.get(column) for column in columns]
