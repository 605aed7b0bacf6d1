"""A step of `make demo`: replay the shop's recommendations of the last 14 days as requests.

The demo's champion is minutes old, and a label is known after ten days. So each recommendation is
scored now, with the features of its own time from the point-in-time join, and written to the
serving log as if it had been requested then. The champion was not fitted on these days: those
whose labels are known are the end of its test period.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow as pa

from contract.bundle import Bundle
from contract.log_format import (
    FIELD,
    STATUS_LETTERS,
    LogEntry,
    LoggedAnswer,
    LogSchema,
    schemas_key,
    stream_key,
)
from contract.predictions import Predictions
from contract.view_layout import MISSING, NULL, PRESENT
from runner.console import result
from runner.feature_store.as_of import open_as_of
from runner.feature_store.recipe_features import recipe_features
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.packaging.served_version import load_version
from runner.project.manifest import EVENT_TIMESTAMP, load_manifest
from runner.recipes.recipe import load_recipe
from runner.settings import Settings, load_settings

DAYS = 14
SERVER = "replay"
_ENTRY_ROWS = 128  # as servers write them


def main(path: str) -> None:
    """Score the recommendations of the last 14 days, and write them to the serving log."""
    settings, recipe = load_settings(), load_recipe(Path(path))
    manifest = load_manifest(settings.manifest_path)
    name = recipe.registered_model_name
    model, version = load_version(settings, f"models:/{name}@champion")
    asked = _asked(settings)
    seen = open_as_of(settings, manifest, recipe)(asked, recipe_features(recipe, manifest))
    rows = pa.Table.from_pandas(asked, preserve_index=False)
    for column in seen.column_names:
        rows = rows.append_column(column, seen[column])
    predictions = model.score(dict(zip(rows.column_names, rows.columns, strict=True)))
    _forget_earlier(settings)
    _write(settings, model.bundle, version, _answers(model.bundle, rows, predictions))
    result(
        f"Replayed {rows.num_rows:,} recommendations of the last {DAYS} days as requests, with the "
        "features of their time."
    )
    result(f"{name} version {version} answered; the serving log has server_id {SERVER!r} for them.")


def _asked(settings: Settings) -> pd.DataFrame:
    query = """
        select user_id, category_id, recommended_at
        from staging.stg_shop__recommendations
        where recommended_at >= %s
        order by recommended_at, user_id, category_id
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with psycopg.connect(**settings.postgres.conninfo) as connection:
        found = connection.execute(query, [today - timedelta(days=DAYS)]).fetchall()
    return pd.DataFrame(found, columns=["user_id", "category_id", EVENT_TIMESTAMP])


def _forget_earlier(settings: Settings) -> None:
    """Delete what an earlier replay left in the warehouse: the shop's days move on with today."""
    with psycopg.connect(**settings.postgres.conninfo) as connection:
        if connection.execute("select to_regclass('raw_data.predictions')").fetchone() != (None,):
            connection.execute("delete from raw_data.predictions where server_id = %s", [SERVER])


def _answers(bundle: Bundle, rows: pa.Table, predictions: Predictions) -> list[LoggedAnswer]:
    """Return one request per row, as a server logs it; of the online store's rows it knows none."""
    keys = rows.select([key.name for key in bundle.entity_keys]).to_pylist()
    values = rows.select(list(bundle.row_dtypes)).to_pylist()
    instants = rows[EVENT_TIMESTAMP].to_pylist()
    projections = bundle.missing_views.positions
    answers: list[LoggedAnswer] = []
    for at, given in enumerate(values):
        row = list(given.values())
        missing = {p for view in bundle.missing_views.of(row) for p in projections[view]}
        statuses = [
            PRESENT if value is not None else MISSING if place in missing else NULL
            for place, value in enumerate(row)
        ]
        shares = None
        if predictions.probabilities is not None:
            # As the API answers them: 0.8, and not the float32's 0.800000011920929.
            shares = [float(str(share)) for share in predictions.probabilities[at]]
        logged = (
            0,
            list(keys[at].values()),
            row,
            "".join(STATUS_LETTERS[status] for status in statuses),
            [None] * len(projections),
            predictions.labels[at].item(),
            shares,
        )
        answers.append((instants[at].timestamp(), f"{SERVER}-{at + 1}", [logged]))
    return answers


def _write(settings: Settings, bundle: Bundle, version: str, answers: list[LoggedAnswer]) -> None:
    """Append the answers to the stream of the serving log, in entries like those of a server."""
    config = load_online_config(settings)
    schema = LogSchema.of(
        bundle, bundle.registered_model_name, list(bundle.missing_views.positions)
    )
    stream = stream_key(config.project)
    with connect(settings, config) as connection:
        client = connection.client
        client.hset(schemas_key(config.project), bundle.digest, schema.dump())
        for first in range(0, len(answers), _ENTRY_ROWS):
            part = answers[first : first + _ENTRY_ROWS]
            entry = LogEntry(SERVER, first + 1, bundle.digest, version, 1.0, part)
            client.xadd(stream, {FIELD: entry.dump()})


if __name__ == "__main__":
    main(sys.argv[1])
