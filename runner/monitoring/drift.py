"""How far the values of now are from those of training, and whether that can be chance.

The distance measures the drift, the p-value only guards against chance: among millions of rows
every difference is significant. docs/decisions/0016-drift-by-distance-and-test.md says what was
compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, f, fisher_exact

FALSE_ALARM_RATE = 0.01
"""How often a window in which nothing changed has any significant drift, at most."""
MIN_ENTITIES = 50
"""With fewer entities, nothing is tested."""
_HEAVIER = 3
_LEAST_EXPECTED = 5.0  # Cochran's rule: below it, chi-square is a poor approximation
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """How many rows each bin has.

    Attributes
    ----------
    counts
        Rows by bin, shape (n_bins,); each row of a sampled log counts for those it represents.
    effective
        How many independent rows it is worth: see `effective_size`.
    """

    counts: Counts
    effective: float

    @property
    def shares(self) -> Counts:
        """The counts as shares of all rows."""
        return np.asarray(self.counts / self.counts.sum())


def effective_size(weights: Counts) -> float:
    """Return how many independent draws entities with these weights are worth.

    Rows of an entity repeat its values: a thousand rows of one user are one draw.

    Notes
    -----
    Source: L. Kish, Survey Sampling (1965), section 11.7, the effective sample size, for whole
    clusters: as if the rows of an entity were all equal, which is the worst case.
    """
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def distance(reference: Sample, served: Sample) -> float:
    """Return the Jensen-Shannon distance of two histograms: 0 if they are equal, 1 if disjoint."""
    if not (reference.counts.sum() and served.counts.sum()):
        return 0.0
    found = float(jensenshannon(reference.shares, served.shares, base=2))
    return 0.0 if np.isnan(found) else found  # the root of a rounding error below 0


def p_value(reference: Sample, served: Sample) -> float | None:
    """Return the p-value of "both are draws of one distribution"; None: too few entities to say.

    Twice the smaller of two p-values: one for pools of neighbouring bins, and one for bins with
    hardly any training rows, such as numbers beyond the training range, where chi-square would be a
    poor approximation.

    Notes
    -----
    Source: D. R. Thomas and J. N. K. Rao, Small-sample comparisons of level and power for simple
    goodness-of-fit statistics under cluster sampling (1987): Pearson's chi-square over the design
    effect, by the F distribution. Fisher's exact test for the rare bins.
    """
    if min(reference.effective, served.effective) < MIN_ENTITIES:
        return None
    return min(1.0, 2 * min(_p_of_pools(reference, served), _p_of_rare(reference, served)))


def _p_of_pools(reference: Sample, served: Sample) -> float:
    fewer = min(reference.effective, served.effective)
    starts = _pools(reference.shares * fewer)
    if len(starts) < 2:
        return 1.0
    table = np.array(
        [np.add.reduceat(each.shares, starts) * each.effective for each in (reference, served)]
    )
    freedom = len(starts) - 1
    statistic = chi2_contingency(table, correction=False).statistic
    return float(f.sf(statistic / freedom, freedom, fewer - 1))


def _p_of_rare(reference: Sample, served: Sample) -> float:
    rare = reference.shares * min(reference.effective, served.effective) < 1
    known, found = (float(h.shares[rare].sum() * h.effective) for h in (reference, served))
    # The effective size is for all entities; those few in a rare bin may have more rows than most.
    found = found // _HEAVIER
    table = [[found, served.effective - found], [known, reference.effective - known]]
    return float(fisher_exact(np.round(table), alternative="greater").pvalue)


def _pools(expected: Counts) -> list[int]:
    """Return where each pool of neighbouring bins starts, all of them expected often enough.

    Chosen by the reference alone: pools that depend on the tested rows raise false alarms.
    """
    starts, pooled = [0], 0.0
    for i, count in enumerate(expected):
        if pooled >= _LEAST_EXPECTED:
            starts.append(i)
            pooled = 0.0
        pooled += count
    return starts if pooled >= _LEAST_EXPECTED or len(starts) == 1 else starts[:-1]


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values corrected for how many there are, by Holm's method.

    If nothing changed, any of them is below `FALSE_ALARM_RATE` in at most that share of windows,
    however they depend on each other.

    Notes
    -----
    Source: S. Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    result: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        result[i] = highest
    return result
