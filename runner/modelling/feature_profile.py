"""How each model input is distributed over the training rows and over the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner.modelling.model_inputs import InputColumn
from runner.modelling.split import Mask, TimeSplit

BINS = 20
SHOWN_VALUES = 8
_TEXT_LENGTH = 40
# This many rows of each part show a distribution as well as all rows do.
_ROWS = 50_000
_ENDS = (0.5, 99.5)  # percentiles: what lies beyond is counted in the first and the last bin
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PartProfile:
    """One column on the rows of one part of the split.

    Attributes
    ----------
    missing
        The share of rows whose value is null or NaN.
    shares
        The share of each bin among the values that are there.
    summary
        Minimum, median and maximum of numbers; the most frequent values of text and flags.
    """

    missing: float
    shares: tuple[float, ...]
    summary: str


@dataclass(frozen=True)
class FeatureProfile:
    """One model input on training and on test rows; both have the same `bins`."""

    column: str
    dtype: str
    bins: str
    training: PartProfile
    test: PartProfile


def feature_profiles(
    table: pa.Table, split: TimeSplit, columns: Sequence[InputColumn]
) -> list[FeatureProfile]:
    """Return the distributions of `columns` of a training table, in their order."""
    rows = {name: _rows(split.parts[name]) for name in ("training", "test")}
    found = []
    for column in columns:
        parts = {name: table[column.column].take(pa.array(each)) for name, each in rows.items()}
        is_number = column.dtype not in {"string", "bool"}
        profile = _of_numbers if is_number else _of_values
        bins, (training, test) = profile(list(parts.values()))
        found.append(FeatureProfile(column.column, column.dtype, bins, training, test))
    return found


def _rows(mask: Mask) -> npt.NDArray[np.intp]:
    """Return the positions of the part's rows, or of an even sample if they are many."""
    rows = np.flatnonzero(mask)
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(np.intp)]


def _of_numbers(parts: Sequence[pa.ChunkedArray]) -> tuple[str, list[PartProfile]]:
    numbers = [pc.cast(part, pa.float64(), safe=False).to_numpy() for part in parts]
    present = [each[~np.isnan(each)] for each in numbers]
    edges = _edges(np.concatenate(present))
    bins = f"{len(edges) - 1} bins from {edges[0]:.4g} to {edges[-1]:.4g}"
    return bins, [
        PartProfile(
            missing=1 - len(values) / max(len(each), 1),
            shares=_shares(np.histogram(values.clip(edges[0], edges[-1]), edges)[0]),
            summary=_range(values),
        )
        for each, values in zip(numbers, present, strict=True)
    ]


def _edges(values: _Floats) -> _Floats:
    """Return the edges of bins; few whole numbers have a bin each."""
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = (float(end) for end in np.percentile(values, _ENDS))
    if high - low < BINS and bool((values == np.floor(values)).all()):
        return np.arange(round(low), round(high) + 2, dtype=np.float64) - 0.5
    if not high > low:  # nearly all are one number
        return low + np.array([-0.5, 0.5]) * max(abs(low), 1.0)
    return np.linspace(low, high, BINS + 1)


def _range(values: _Floats) -> str:
    if not len(values):
        return "no values"
    return f"{values.min():.4g} to {values.max():.4g}, median {np.median(values):.4g}"


def _of_values(parts: Sequence[pa.ChunkedArray]) -> tuple[str, list[PartProfile]]:
    counts = [
        {one["values"].as_py(): one["counts"].as_py() for one in pc.value_counts(part.drop_null())}
        for part in parts
    ]
    values = sorted(counts[0] | counts[1], key=lambda value: (-counts[0].get(value, 0), str(value)))
    shown, others = values[: BINS - 1], values[BINS - 1 :]
    bins = f"{len(values):,} values" + (f", {len(others):,} in the last bin" if others else "")
    profiles = []
    for part, found in zip(parts, counts, strict=True):
        binned = [found.get(value, 0) for value in shown]
        if others:
            binned.append(sum(found.get(value, 0) for value in others))
        shares = _shares(np.array(binned or [0]))
        missing = part.null_count / max(len(part), 1)
        profiles.append(PartProfile(missing, shares, _most_frequent(found)))
    return bins, profiles


def _most_frequent(counts: dict[object, int]) -> str:
    total = sum(counts.values())
    first = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:SHOWN_VALUES]
    if not first:
        return "no values"
    return ", ".join(f"{_text(value)} {count / total:.0%}" for value, count in first)


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 1]}…"


def _shares(counts: npt.NDArray[np.intp]) -> tuple[float, ...]:
    total = max(int(counts.sum()), 1)
    return tuple(round(float(count) / total, 5) for count in counts)
