"""Batch scoring: entity keys from a file or a spine, features point-in-time, one prediction a row.

A version's serving bundle scores, the same that answers over HTTP, so both give equal answers for
equal features.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from contract.bundle import Bundle
from contract.explainer import Explainer
from contract.scoring import Model
from contract.values import CAP_IT
from runner import console
from runner.commands.online.absent_views import (
    Absent,
    absent_views,
    null_rows,
    refuse_missing,
    view_names,
)
from runner.commands.predictions.changed_inputs import warn_of_changed_features
from runner.commands.predictions.explanation_output import ExplanationOutput
from runner.commands.predictions.prediction_file import read_entities, refuse_taken, require_keys
from runner.commands.predictions.prediction_output import Output
from runner.errors import RunnerError
from runner.feature_store.recipe_features import bundle_features, spine_query
from runner.feature_store.store import open_store, point_in_time_batches
from runner.modelling.model_inputs import too_large
from runner.packaging.served_version import (
    load_explained_version,
    load_version,
    require_features,
)
from runner.project.manifest import EVENT_TIMESTAMP, load_manifest
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.mart_snapshot import as_number
from runner.warehouse.scored_table import ScoredBy

# What an outcome model has of an earlier answer: these predictions have their own.
_ANSWERED = ("model_name", "model_version", "prediction")
_NUMBERS = {"int64", "int32", "float64", "float32"}


@dataclass(frozen=True)
class Written:
    """How many predictions of which model version were written.

    Attributes
    ----------
    missing
        View → for how many rows it has nothing, if for any.
    """

    model: str
    rows: int
    missing: Mapping[str, int]


class _Explains(NamedTuple):
    """What explains a model, and how it is written."""

    explainer: Explainer
    output: ExplanationOutput


def predict(
    settings: Settings,
    model_uri: str,
    source: str,
    output: Output,
    time_zone: str | None = None,
    *,
    explain: bool = False,
) -> Written:
    """Write one prediction per row of `source` to `output`; nothing is left half-written.

    Parameters
    ----------
    model_uri
        `models:/<name>@<alias>` or `models:/<name>/<version>`.
    source
        A Parquet or CSV file with the entity keys, the request inputs and, optionally,
        `event_timestamp` (UTC; now if absent), or the name of a spine. Its columns come before the
        predictions, in its order.
    output
        A file, or a table of the warehouse.
    time_zone
        The zone of a file's timestamps without one; None: UTC.
    explain
        Whether what each model input contributes is written too.

    Raises
    ------
    RunnerError
        If the source is not what is expected, the model has no such version or cannot be explained,
        or a feature that it takes is no longer in dbt.
    """
    output.require_usable()
    require_servers(settings)
    model, version, explains = _load(settings, model_uri, output if explain else None)
    more = [*output.columns, *(explains.output.names if explains else ())]
    manifest = load_manifest(settings.manifest_path)
    by = ScoredBy(re.split("[:/@]+", model_uri)[1], version, datetime.now(UTC))
    name = f"{by.model} version {version}"
    require_features(model.bundle, manifest.marts, name)
    entity_df = _entities(settings, model.bundle, source, time_zone, more)
    warn_of_changed_features(settings, manifest, by.model, version)
    store = open_store(settings)
    rows, missing = 0, Counter[str]()
    with (
        console.bar(f"predict with {name}", None) as bar,
        point_in_time_batches(store, entity_df, bundle_features(model.bundle)) as reader,
        output.open(
            settings, _scored(model, reader.schema.empty_table(), {}, explains).schema, by
        ) as write,
    ):
        for batch in reader:
            _refuse_too_large(model, batch, rows)
            table = pa.Table.from_batches([batch])
            absent = absent_views(model.bundle, table)
            refuse_missing(model.bundle, absent, rows)
            write(_scored(model, table, absent, explains))
            rows += batch.num_rows
            missing.update({view: int(mask.sum()) for view, mask in absent.items()})
            bar.advance(batch.num_rows)
    return Written(name, rows, +missing)


def _load(
    settings: Settings, model_uri: str, explained: Output | None
) -> tuple[Model, str, _Explains | None]:
    """Return a model, its version and, for the output that has explanations, what explains it."""
    if explained is None:
        return *load_version(settings, model_uri), None
    model, explainer, version = load_explained_version(settings, model_uri)
    return model, version, _Explains(explainer, explained.explanations(explainer))


def scored_rows(settings: Settings, model: Model, entity_df: pd.DataFrame) -> pa.Table:
    """Return a few rows with one prediction each, as `predict` writes them.

    Parameters
    ----------
    entity_df
        Entity keys, request inputs and `event_timestamp`.
    """
    joined = bundle_features(model.bundle)
    with point_in_time_batches(open_store(settings), entity_df, joined) as reader:
        table = reader.read_all()
    absent = absent_views(model.bundle, table)
    refuse_missing(model.bundle, absent, 0)
    return _scored(model, table, absent)


def _refuse_too_large(model: Model, batch: pa.RecordBatch, before: int) -> None:
    """Raise if a number is too large for the model; `before` is how many rows came before."""
    features = {f.name: f"{f.projection}:{f.feature}" for f in model.bundle.features}
    found = too_large(pa.Table.from_batches([batch]), model.bundle.row_dtypes)
    if found:
        first = found[0]
        raise RunnerError(
            f"{features.get(first.column, first.column)} {first.problem} in {first.rows.sum():,} "
            f"of the rows {before + 1:,} to {before + batch.num_rows:,}, the largest is "
            f"{first.largest:g}",
            hint=CAP_IT if first.column in features else "correct it in what you predict for",
        )


def _scored(
    model: Model, table: pa.Table, absent: Absent, explains: _Explains | None = None
) -> pa.Table:
    """Return the rows without their stored features, with what is answered for each.

    That is `prediction`, a column per class, and `missing_views`: names apart by `, `, or null;
    and what explains them.
    """
    bundle = model.bundle
    kept = table.drop_columns([feature.name for feature in bundle.features])
    columns = (*bundle.row_dtypes, EVENT_TIMESTAMP)
    given = {one.name: as_number(table[one.name]) for one in bundle.request}
    asked = {name: table[name] for name in columns} | given
    predictions = model.score(asked)
    unanswered = null_rows(bundle, absent, table.num_rows)
    kept = kept.append_column("prediction", pa.array(predictions.labels, mask=unanswered))
    if predictions.probabilities is not None:
        for number, label in enumerate(bundle.label.classes or ()):
            column = pa.array(predictions.probabilities[:, number], mask=unanswered)
            kept = kept.append_column(f"probability_{label}", column)
    kept = kept.append_column("missing_views", view_names(absent, table.num_rows))
    if explains is not None:
        found = explains.output.columns(explains.explainer.columns(asked), unanswered)
        for name, column in zip(explains.output.names, found, strict=True):
            kept = kept.append_column(name, column)
    return kept


def _entities(
    settings: Settings,
    bundle: Bundle,
    source: str,
    time_zone: str | None,
    more: Sequence[str],
) -> pd.DataFrame | str:
    if source.endswith((".parquet", ".csv")):
        return read_entities(bundle, Path(source), time_zone, more)
    spines = load_manifest(settings.manifest_path).spines
    if source not in spines:
        close = difflib.get_close_matches(source, spines, n=1)
        raise RunnerError(
            f"{source!r} is neither a .parquet or .csv file nor a spine",
            hint=f"did you mean {close[0]}?" if close else f"spines: {', '.join(sorted(spines))}",
        )
    spine = spines[source]
    require_keys(bundle, set(spine.columns), source)
    for given in bundle.request:
        dtype = spine.columns[given.name].dtype
        if dtype != given.dtype and not {dtype, given.dtype} <= _NUMBERS:
            raise RunnerError(
                f"{source}: {given.name} is {dtype}, and the model takes {given.dtype}",
                hint=f"cast it in the spine's SQL ({spine.file}), or train on this spine",
            )
    left_out = _ANSWERED if spine.outcome else ()
    columns = [name for name in spine.columns if name not in left_out]
    refuse_taken(bundle, columns, source, more)
    return spine_query(spine, columns)


def show_predictions(written: Written, output: Output) -> None:
    """Print what was written, and warn of views that have nothing for some rows."""
    predictions = "prediction" if written.rows == 1 else "predictions"
    console.result(f"{written.rows:,} {predictions} of {written.model} in {output}")
    if written.missing:
        views: dict[int, list[str]] = {}
        for view, rows in written.missing.items():
            views.setdefault(rows, []).append(view)
        counts = [
            f"{rows:,} of {written.rows:,} rows: nothing in {', '.join(names)}"
            for rows, names in views.items()
        ]
        console.warn(
            f"{'; '.join(counts)} (unknown entities, or event_timestamps before the first data; "
            "the column missing_views lists them by row)"
        )
