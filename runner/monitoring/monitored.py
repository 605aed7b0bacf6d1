"""What is monitored of a model: its features, its request inputs and its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from contract.bundle import Bundle, BundleFeature, BundleRequestInput
from contract.predictions import Predictions
from runner.monitoring.bins import Bins, bins_of
from runner.monitoring.drift import Sample, effective_size
from runner.monitoring.seasons import Seasons, seasons_of
from runner.project.manifest import EVENT_TIMESTAMP
from runner.recipes.limits import Season

PREDICTION = "prediction"


@dataclass(frozen=True)
class Monitored:
    """A column of the serving log, and how the training rows are distributed in it.

    Attributes
    ----------
    name
        The model's column, or `prediction`.
    shown_as
        Its name for readers: `view:feature`, or the column's name.
    place
        The log's column and, if that is JSON, its member.
    keys
        The entity keys that it belongs to: rows of one entity repeat its value.
    is_feature
        Whether it has a status.
    seasons
        The same by season, if days are compared with the training rows of theirs.
    """

    name: str
    shown_as: str
    place: tuple[str, str]
    keys: tuple[str, ...]
    bins: Bins
    reference: Sample
    is_feature: bool = False
    seasons: Seasons | None = None


def monitored_columns(
    bundle: Bundle,
    trained: pa.Table,
    tested: pa.Table,
    predictions: Predictions,
    by: Season | None = None,
) -> list[Monitored]:
    """Return the model's columns that can be compared with its training rows.

    Left out are times, which always move on, and personal data, which the log does not have.

    Parameters
    ----------
    trained, tested
        The rows that the model was fitted on, and its test rows.
    predictions
        Of the test rows: a model is overconfident on rows that it was fitted on.
    by
        The season whose training rows a day is compared with; None: all training rows.
    """
    kept = [one for one in bundle.row if one.dtype != "timestamp" and not one.pii]
    inputs = (_input(bundle, one, trained, by) for one in kept)
    return [*inputs, _answer(bundle, tested, predictions, by)]


def _input(
    bundle: Bundle,
    column: BundleFeature | BundleRequestInput,
    rows: pa.Table,
    by: Season | None,
) -> Monitored:
    is_feature = isinstance(column, BundleFeature)
    keys = column.keys if isinstance(column, BundleFeature) else _every_key(bundle)
    shown = column.name
    if isinstance(column, BundleFeature):
        shown = f"{column.projection}:{column.feature}"
    values = rows[column.name]
    bins = bins_of(values, column.dtype)
    reference = _sample(bins, values, rows, keys)
    place = ("features", column.name)
    found = Monitored(column.name, shown, place, keys, bins, reference, is_feature)
    return found if by is None else _seasonal(found, by, values, rows)


def _answer(
    bundle: Bundle, rows: pa.Table, predictions: Predictions, by: Season | None
) -> Monitored:
    classes, place = bundle.label.classes, (PREDICTION, "")
    values, dtype = pa.chunked_array([pa.array(predictions.labels)]), "float64"
    if classes and len(classes) == 2:
        assert predictions.probabilities is not None  # noqa: S101 - a classification
        # The log has the shortest text of a float32: 0.8, which as a float64 is 0.80000001.
        shares = [float(str(share)) for share in predictions.probabilities[:, 1]]
        values = pa.chunked_array([pa.array(shares, pa.float64())])
        place = ("probabilities", str(classes[1]))
    elif classes:
        dtype = "string"
    bins, keys = bins_of(values, dtype), _every_key(bundle)
    reference = _sample(bins, values, rows, keys)
    found = Monitored(PREDICTION, PREDICTION, place, keys, bins, reference)
    return found if by is None else _seasonal(found, by, values, rows)


def _seasonal(of: Monitored, by: Season, values: pa.ChunkedArray, rows: pa.Table) -> Monitored:
    """Return the column with its training rows by season."""
    numbers, samples = seasons_of(by, rows[EVENT_TIMESTAMP]), {}
    entities = rows.select([*of.keys, EVENT_TIMESTAMP])  # to filter a table copies its columns
    for number in np.unique(numbers).tolist():
        mask = pa.array(numbers == number)
        samples[number] = _sample(of.bins, values.filter(mask), entities.filter(mask), of.keys)
    return replace(of, seasons=Seasons(by, samples, of.reference))


def _every_key(bundle: Bundle) -> tuple[str, ...]:
    return tuple(key.name for key in bundle.entity_keys)


def _sample(bins: Bins, values: pa.ChunkedArray, rows: pa.Table, keys: Sequence[str]) -> Sample:
    counts = np.bincount(bins.numbers(values), minlength=len(bins.labels)).astype(np.float64)
    entities = rows.group_by(list(keys)).aggregate([([], "count_all")])["count_all"]
    return Sample(counts, effective_size(entities.to_numpy().astype(np.float64)))
