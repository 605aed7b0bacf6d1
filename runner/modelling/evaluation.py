"""How good a fitted pipeline is on rows it has not seen, and whether it passes the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring

from contract.predictions import Predictions
from runner.modelling.bootstrap import Labels, predicted

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe


@dataclass(frozen=True)
class Evaluation:
    """Scores by scorer name; scikit-learn's scorers are all greater-is-better.

    Attributes
    ----------
    refusals
        Why the gate refuses the model, one sentence per threshold missed; empty if it passes.
    """

    train: dict[str, float]
    test: dict[str, float]
    refusals: tuple[str, ...]


class Judged(NamedTuple):
    """An estimator and what it is scored on: X of n_rows rows and labels of shape (n_rows,)."""

    estimator: BaseEstimator
    X: pd.DataFrame | npt.NDArray[np.intp]
    y: npt.NDArray[np.generic]


def as_served(predictions: Predictions, classes: list[int | str] | None, y: Labels) -> Judged:
    """Return predictions, as serving answers them, to be scored on the labels of their rows."""
    return Judged(predicted(predictions, classes), np.arange(len(y)), y)


def evaluate(recipe: Recipe, train: Judged, test: Judged) -> Evaluation:
    """Return the recipe's scores on training and test rows and what its gate says of them.

    Raises
    ------
    RunnerError
        If a scorer cannot score these rows, or gives a value that is not a number.
    """
    scores = {part: _scores(recipe, judged) for part, judged in (("train", train), ("test", test))}
    refusals = tuple(
        f"{name} is {scores['test'][name]:.4f}, below the threshold {threshold:g}"
        for name, threshold in recipe.gate.items()
        if scores["test"][name] < threshold
    )
    return Evaluation(scores["train"], scores["test"], refusals)


def score(judged: Judged, scoring: Sequence[str]) -> dict[str, float]:
    """Return the scores of a fitted estimator by scorer name, always the same for the same rows.

    Raises
    ------
    ValueError
        If a scorer cannot score these rows.
    """
    # One scorer for all names predicts once instead of once per name.
    scorer = check_scoring(judged.estimator, scoring=list(scoring))
    # In turn: a forest whose trees answer at once adds them up in the order they finish. The
    # probabilities of 20,000 rows, asked for 15 times, were 15 times other in the last digits.
    with joblib.parallel_config(backend="sequential"):
        return {name: float(value) for name, value in scorer(*judged).items()}


def _scores(recipe: Recipe, judged: Judged) -> dict[str, float]:
    try:
        scores = score(judged, recipe.scoring)
    except ValueError as err:
        raise recipe.error(
            ("scoring",),
            f"cannot score these rows: {err}",
            hint="choose scorers that fit the label, or another split.test",
        ) from err
    for name, value in scores.items():
        if not np.isfinite(value):
            raise recipe.error(
                ("scoring",),
                f"{name} is {value} on {len(judged.y)} rows",
                hint="choose a scorer that fits the label, or another split.test",
            )
    return scores
