"""Tuning: the estimator's arguments that score best on later rows, searched for with Optuna.

The test rows take no part: each trial is scored on folds of the training rows alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from runner import console
from runner.errors import RunnerError
from runner.modelling.classes import tuning_folds
from runner.modelling.environment import extras
from runner.modelling.evaluation import Judged, score
from runner.modelling.folds import Fold
from runner.modelling.pipeline import fit_pipeline
from runner.modelling.training_data import Rows, TrainingData, table_digest
from runner.project.manifest import EVENT_TIMESTAMP
from runner.wording import show

if TYPE_CHECKING:
    from runner.modelling.study import RunningTrial, Study, Trial
    from runner.recipes.recipe import Recipe
    from runner.recipes.tuning import Tuning
    from runner.settings import Settings

_VERSIONS = ("optuna", "scikit-learn", "numpy")
_NOT_DECIDING = (  # keys of the recipe that no trial depends on
    *("registered_model_name", "experiment_name", "description"),
    *("gate", "min_shadow_days", "monitor", "slices", "feature_overrides"),
)


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes
    ----------
    study
        The name of the study in Optuna's storage; empty if the recipe does not tune.
    trials
        Those that came to an end, in the order in which they began.
    """

    study: str = ""
    trials: tuple[Trial, ...] = ()

    @cached_property
    def best(self) -> Trial | None:
        """The complete trial of the highest score, the earliest of several; None without tuning."""
        complete = [trial for trial in self.trials if not trial.pruned]
        return max(complete, key=lambda trial: trial.score) if complete else None

    @property
    def arguments(self) -> dict[str, Any]:
        """The chosen arguments; none without tuning."""
        return self.best.arguments if self.best else {}

    @property
    def metrics(self) -> dict[str, float]:
        """MLflow metrics of the training run; none without tuning."""
        if self.best is None:
            return {}
        return {"tuning_best_score": self.best.score, "n_trials": len(self.trials)}

    @property
    def summary(self) -> dict[str, Any]:
        """What trains the same model again without tuning, in JSON's types."""
        return {"study": self.study, "arguments": self.arguments, **self.metrics}


NOT_TUNED = Tuned()


def tune(settings: Settings, recipe: Recipe, data: TrainingData) -> Tuned:
    """Return what the recipe's tuning finds on the training rows; nothing if it has none.

    Trials that an earlier run finished on the same rows, with the same recipe, are taken over.

    Raises
    ------
    RunnerError
        If the training rows cannot be divided into the folds, or a trial cannot be fitted or
        scored; what was finished before is kept.
    """
    if recipe.tuning is None:
        return NOT_TUNED
    from runner.modelling.study import Study

    with console.step("optuna: tune") as step:
        name = study_name(recipe, data)
        study = Study(settings.optuna_storage, name, recipe.tuning)
        search = _Search(recipe, recipe.tuning, data.train, _folds(recipe, recipe.tuning, data))
        search.run(study, step.update)
        return Tuned(name, tuple(study.ended()))


def study_name(recipe: Recipe, data: TrainingData) -> str:
    """Return a name that is the same for whatever gives the same trials, and only for that."""
    # Calibration and threshold decide no score of a trial, but their periods which rows train.
    deciding = recipe.dump()
    for key in _NOT_DECIDING:
        deciding.pop(key, None)  # without a value it is not there
    for key in ("n_trials", "timeout"):  # more trials, or more time, go on from those there are
        del deciding["tuning"][key]
    deciding["scoring"] = recipe.scoring[0]
    deciding["data"] = table_digest(data.table)
    extra = extras(recipe.estimator.class_path)
    deciding["versions"] = [*(version(name) for name in _VERSIONS), *extra.values()]
    digest = hashlib.sha256(json.dumps(deciding).encode()).hexdigest()
    return f"{recipe.registered_model_name}-{digest[:16]}"


@dataclass(frozen=True)
class _Search:
    """How trials are scored: the recipe, its training rows and their folds."""

    recipe: Recipe
    tuning: Tuning
    rows: Rows
    folds: list[Fold]

    def run(self, study: Study, progress: Callable[[str], None]) -> None:
        """Run trials until there are enough, or the time is over and one is complete."""
        timeout = self.tuning.timeout
        deadline = time.monotonic() + timeout.total_seconds() if timeout else math.inf
        while True:
            trials = study.ended()
            progress(self._state(trials))
            if len(trials) == self.tuning.n_trials:
                return
            trial = study.begin()
            try:
                if not self._finish(trial, deadline if trials else math.inf):
                    return
            except BaseException:  # Ctrl-C too: what was not finished does not count
                trial.abandon()
                raise

    def _finish(self, trial: RunningTrial, deadline: float) -> bool:
        """Score the trial fold by fold; return whether it was done before the deadline."""
        scores: list[float] = []
        for number in range(len(self.folds)):
            if time.monotonic() >= deadline:
                trial.abandon()
                return False
            scores.append(self._score(trial.arguments, number))
            trial.report(number, scores[-1])
            if len(scores) < len(self.folds) and trial.is_hopeless():
                trial.end(None)
                return True
        trial.end(float(np.mean(scores)))
        return True

    def _score(self, arguments: Mapping[str, Any], number: int) -> float:
        """Return the primary score of these arguments on one fold's validation rows."""
        fold, name = self.folds[number], self.recipe.scoring[0]
        train, validation = (
            Rows(self.rows.X[mask], self.rows.y[mask]) for mask in (fold.train, fold.validation)
        )
        try:
            pipeline = fit_pipeline(self.recipe.with_arguments(arguments), *train)
            value = score(Judged(pipeline, *validation), [name])[name]
        except (RunnerError, ValueError) as err:
            # The place is said once: that of the tuning.
            message = re.sub(rf"^{re.escape(str(self.recipe.path))}(:\d+)*: ", "", str(err))
            hint = "narrow tuning.search_space, or set tuning.folds lower"
            raise self._error(number, arguments, message, hint) from err
        if not math.isfinite(value):
            hint = "choose another first scorer, or set tuning.folds lower"
            raise self._error(number, arguments, f"{name} is {value}", hint)
        return value

    def _error(
        self, number: int, arguments: Mapping[str, Any], message: str, hint: str
    ) -> RunnerError:
        tried = ", ".join(f"{name} {show(value)}" for name, value in arguments.items())
        problem = f"fold {number + 1} of {len(self.folds)} with {tried}: {message}"
        return self.recipe.error(("tuning",), problem, hint)

    def _state(self, trials: Sequence[Trial]) -> str:
        state = f"trial {len(trials)}/{self.tuning.n_trials}"
        if best := Tuned(trials=tuple(trials)).best:
            state += f"  best {self.recipe.scoring[0]} {best.score:.4f}"
        return state


def _folds(recipe: Recipe, tuning: Tuning, data: TrainingData) -> list[Fold]:
    timestamps = data.table[EVENT_TIMESTAMP].filter(pa.array(data.split.train))
    return tuning_folds(recipe, tuning, timestamps, data.train.y)
