"""The proof that a served model answers what its pipeline answers, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from contract.predictions import Predictions
from runner.modelling.fitted_model import uncalibrated

Answer = Callable[[pd.DataFrame], Predictions]

TOLERANCE = 1e-5
"""The largest difference that counts as equal; float32 carries seven digits.

Of a probability it is the difference itself; of a regression's number, the difference in relation
to that row's prediction plus the median one. A prediction near 0 is the sum of larger numbers, so
its own size alone says nothing; the largest of all would hide that small ones are wrong.
"""
_HELD_OUT_ROWS = 5_000
_ROWS_PER_COLUMN = 5
_ROWS_ALONE = 100
_NEIGHBOURS_ALONE = 1_000
_UNSEEN = "\N{REPLACEMENT CHARACTER} seen nowhere"


class NotEqualError(Exception):
    """What is served differs from the pipeline; the message says how, and on which rows."""


@dataclass(frozen=True)
class ProofRows:
    """The model inputs that both are asked for.

    Attributes
    ----------
    X
        Held-out rows, then copies of some with one value missing or, in a text, never seen, for
        each column, and one row with every value missing.
    held_out
        How many rows are held-out ones as they are.
    """

    X: pd.DataFrame
    held_out: int

    @property
    def described(self) -> str:
        """Which rows these are, in a few words."""
        changed = len(self.X) - self.held_out
        return f"{self.held_out} held-out rows and {changed} with missing and unseen values"


def proof_rows(X: pd.DataFrame) -> ProofRows:
    """Return rows that show whether a model is served right, out of held-out rows `X`."""
    sample = X.iloc[:: -(-len(X) // _HELD_OUT_ROWS)]
    some = sample.iloc[:: -(-len(sample) // _ROWS_PER_COLUMN)]
    changed = [
        some.assign(**{str(name): pd.Series(value, some.index, X[name].dtype)})
        for name in X
        for value in (("", _UNSEEN) if X[name].dtype == object else (np.nan,))
    ]
    missing = {n: "" if X[n].dtype == object else np.nan for n in X}
    nothing = pd.DataFrame([missing]).astype(dict(X.dtypes))
    rows = pd.concat([sample, *changed, nothing], ignore_index=True)
    return ProofRows(rows[list(X)], len(sample))


def prove(expected: Predictions, answer: Answer, rows: ProofRows) -> str:
    """Return how equal the answers to `rows` are to the expected ones, in a few words.

    Raises
    ------
    NotEqualError
        If a class differs, or a number by more than `TOLERANCE`.
    """
    difference = _require_equal(expected, answer(rows.X), f"on {rows.described}")
    if expected.probabilities is None:
        within = f"within {difference:.1g} of each row's prediction plus the median one"
        return f"{within} on {rows.described}"
    return f"within {difference:.1g} on {rows.described}, with the same classes"


def prove_alone(pipeline: Pipeline, answer: Answer, rows: ProofRows) -> None:
    """Return if rows are answered alone as they are in a batch.

    Neighbours are found by distances whose last digits depend on how many rows are asked at once;
    of two points as far away, another one is the neighbour then.

    Raises
    ------
    NotEqualError
        If one is not.
    """
    count = _NEIGHBOURS_ALONE if finds_neighbours(pipeline) else _ROWS_ALONE
    X = rows.X.iloc[:: -(-len(rows.X) // count)]
    each = [answer(X.iloc[[number]]) for number in range(len(X))]
    alone = Predictions(
        np.concatenate([one.labels for one in each]),
        None
        if each[0].probabilities is None
        else np.concatenate([one.probabilities for one in each if one.probabilities is not None]),
    )
    _require_equal(answer(X), alone, f"when {len(X)} rows are asked one by one, not in a batch")


def finds_neighbours(pipeline: Pipeline) -> bool:
    """Return whether the pipeline's estimator looks for the nearest training rows."""
    return type(uncalibrated(pipeline)[-1]).__module__.startswith("sklearn.neighbors.")


def _require_equal(expected: Predictions, answers: Predictions, where: str) -> float:
    """Return the largest difference, of probabilities or in relation to a row's prediction."""
    if expected.probabilities is None:
        difference = relative_difference(expected.labels, answers.labels)
        if not difference <= TOLERANCE:
            raise NotEqualError(
                f"differs by {difference:.2g} of a row's prediction plus the median one {where}"
            )
        return difference
    assert answers.probabilities is not None  # noqa: S101 - of one task
    difference = float(np.abs(answers.probabilities - expected.probabilities).max())
    if not difference <= TOLERANCE:
        raise NotEqualError(f"differs by {difference:.2g} {where}")
    other = int((answers.labels != expected.labels).sum())
    if other:
        raise NotEqualError(f"differs in the class of {other} rows {where}")
    return difference


def relative_difference(
    expected: npt.NDArray[np.generic], answered: npt.NDArray[np.generic]
) -> float:
    """Return the largest difference in relation to that row's prediction plus the median one."""
    numbers = np.asarray(expected, np.float64)
    size = np.abs(numbers) + np.median(np.abs(numbers))
    gap = np.abs(np.asarray(answered, np.float64) - numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(gap == 0, 0.0, gap / size).max())
