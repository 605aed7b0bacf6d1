"""How often the positive class came true, by the probability that was answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runner.modelling.share_interval import wilson
from runner.monitoring.drift import effective_size
from runner.monitoring.labelled_rows import LabelledRows
from runner.monitoring.live_scores import Judge, row_entities

_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Labelled rows with similar probabilities of the positive class.

    Attributes
    ----------
    predicted, observed
        The mean probability, and the share of rows whose label is the positive class.
    low, high
        The 95 % interval of `observed`; rows of one entity count as one.
    """

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


def reliability(judge: Judge, rows: LabelledRows) -> tuple[ReliabilityBin, ...]:
    """Return at most ten parts of the rows, about equally large, by rising probability.

    Empty for a regression, and for more than two classes.
    """
    classes = judge.label.classes
    found = judge.answers(rows)
    if classes is None or len(classes) != 2 or isinstance(found, str) or not len(rows.days):
        return ()
    shares, is_positive = rows.probabilities[:, 1], found[1] == classes[1]
    edges = np.unique(np.quantile(shares, np.linspace(0, 1, _BINS + 1)[1:-1]))
    numbers, entities = np.digitize(shares, edges), row_entities(rows)
    bins = []
    for number in np.unique(numbers):
        of = numbers == number
        observed = float(is_positive[of].mean())
        independent = effective_size(np.unique(entities[of], return_counts=True)[1].astype(float))
        low, high = wilson(np.array(observed), np.array(independent))
        bins.append(
            ReliabilityBin(
                float(shares[of].mean()), observed, float(low), float(high), int(of.sum())
            )
        )
    return tuple(bins)
