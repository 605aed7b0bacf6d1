"""A new model before it is registered: how sure its scores are, and if it beats the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from contract.predictions import Predictions
from runner.feature_store.nullable_types import NULLABLE
from runner.modelling.bootstrap import (
    RESAMPLES,
    SEED,
    Interval,
    RowNumbers,
    predicted,
    score_interval,
)
from runner.modelling.training_data import TrainingData
from runner.project.manifest import Spine

Verdict = Literal["better", "worse", "no clear difference"]
"""By the 95 % interval of the difference: above 0, below 0, or around it."""


@dataclass(frozen=True)
class Comparison:
    """What the comparison with the champion says.

    Attributes
    ----------
    version
        The champion that was compared; "" where there is none.
    refusal
        Why the new model does not become the champion; "" if it does.
    metrics
        The champion's score and the difference with its interval; empty if there is none.
    verdict
        What the new model is beside the champion; None where they could not be compared.
    is_retired
        Whether the champion's features were changed on purpose: there is nothing to beat then.
    """

    version: str
    refusal: str = ""
    metrics: Mapping[str, float] | None = None
    verdict: Verdict | None = None
    is_retired: bool = False

    @property
    def is_served(self) -> bool:
        """Whether there is a champion, and its features are what it was trained on."""
        return bool(self.version) and not self.is_retired

    @property
    def params(self) -> dict[str, str]:
        """What makes the comparison reproducible."""
        if not self.version:
            return {}
        return {
            "champion_version": self.version,
            "bootstrap_resamples": str(RESAMPLES),
            "bootstrap_seed": str(SEED),
        }

    @property
    def summary(self) -> str:
        """The outcome in a few words."""
        if not self.version:
            return "there is none yet"
        if self.is_retired:
            return f"version {self.version} is retired: its features changed"
        return f"version {self.version}: {self.verdict or 'not comparable'}"

    @property
    def tags(self) -> dict[str, str]:
        """The verdict as a tag of the run and of the model version."""
        return {"champion_comparison": self.verdict or "not comparable"} if self.version else {}


NO_CHAMPION = Comparison("")


@dataclass(frozen=True)
class Contender:
    """A new model, not yet registered, and where its rows come from.

    Attributes
    ----------
    predictions
        Of the test rows, as the new model would answer when served.
    classes
        In the order of its probabilities; None for a regression.
    """

    name: str
    scorer: str
    spine: Spine
    data: TrainingData
    predictions: Predictions
    classes: list[int | str] | None


def score_intervals(contender: Contender, scoring: Sequence[str]) -> dict[str, Interval]:
    """Return each score on the test rows, as served, with its 95 % interval."""
    data, model = contender.data, predicted(contender.predictions, contender.classes)
    groups = entity_numbers(data.table.filter(pa.array(data.split.test)), contender.spine)
    return {name: score_interval(name, model, data.test.y, groups) for name in scoring}


def entity_numbers(table: pa.Table, spine: Spine) -> RowNumbers:
    """Return a number from 0 per row, shape (n_rows,), equal for rows of one entity.

    Of a spine without entities each row is by itself.
    """
    if not spine.join_keys:
        return np.arange(table.num_rows, dtype=np.intp)
    frame: pd.DataFrame = table.select(list(spine.join_keys)).to_pandas(types_mapper=NULLABLE.get)
    numbers = frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup()
    return np.asarray(numbers, dtype=np.intp)
