"""How good a fitted pipeline is on rows it has not seen, and whether it passes the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline

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


def evaluate(
    recipe: Recipe,
    pipeline: Pipeline,
    train: tuple[pd.DataFrame, npt.NDArray[np.generic]],
    test: tuple[pd.DataFrame, npt.NDArray[np.generic]],
) -> Evaluation:
    """Return the recipe's scores of a fitted pipeline and what its gate says of them.

    Parameters
    ----------
    train, test
        (X, y) with X of shape (n_rows, n_features) and y of shape (n_rows,).

    Raises
    ------
    RunnerError
        If a scorer cannot score these rows, or gives a value that is not a number.
    """
    scores = {
        part: _scores(recipe, pipeline, *rows) for part, rows in (("train", train), ("test", test))
    }
    refusals = tuple(
        f"{name} is {scores['test'][name]:.4f}, below the threshold {threshold:g}"
        for name, threshold in recipe.gate.items()
        if scores["test"][name] < threshold
    )
    return Evaluation(scores["train"], scores["test"], refusals)


def score(
    pipeline: Pipeline, scoring: Sequence[str], X: pd.DataFrame, y: npt.NDArray[np.generic]
) -> dict[str, float]:
    """Return the scores of a fitted pipeline by scorer name, always the same for the same rows.

    Parameters
    ----------
    X, y
        Shapes (n_rows, n_features) and (n_rows,).

    Raises
    ------
    ValueError
        If a scorer cannot score these rows.
    """
    # One scorer for all names predicts once instead of once per name.
    scorer = check_scoring(pipeline, scoring=list(scoring))
    # In turn: a forest whose trees answer at once adds them up in the order they finish. The
    # probabilities of 20,000 rows, asked for 15 times, were 15 times other in the last digits.
    with joblib.parallel_config(backend="sequential"):
        return {name: float(value) for name, value in scorer(pipeline, X, y).items()}


def _scores(
    recipe: Recipe, pipeline: Pipeline, X: pd.DataFrame, y: npt.NDArray[np.generic]
) -> dict[str, float]:
    try:
        scores = score(pipeline, recipe.scoring, X, y)
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
                f"{name} is {value} on {len(y)} rows",
                hint="choose a scorer that fits the label, or another split.test",
            )
    return scores
