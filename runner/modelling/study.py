"""Optuna: what was tried so far, and what to try next.

A study is kept in a database, so that an interrupted search goes on where it stopped. Only
trials that came to an end count. What is tried next follows from them and the seed alone: a search
that was interrupted finds what it would have found in one go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from runner.errors import RunnerError
from runner.recipes.tuning import Distribution, Tuning

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_LOCK_SECONDS = 60


@dataclass(frozen=True)
class Trial:
    """A setting of arguments that was tried.

    Attributes
    ----------
    fold_scores
        Of each fold that it was scored on; fewer than there are folds if it was pruned.
    pruned
        Whether it was given up, because its scores so far were below the median of the others'.
    """

    number: int
    arguments: dict[str, Any]
    fold_scores: tuple[float, ...]
    pruned: bool
    started_at: datetime
    ended_at: datetime

    @property
    def score(self) -> float:
        """The mean of the fold scores; of a complete trial, what it is judged by."""
        return float(np.mean(self.fold_scores))


class Study:
    """The trials of one search, in the database `url`; a file is created if need be.

    Raises
    ------
    RunnerError
        If the database does not answer, is not Optuna's, or another version's.
    """

    def __init__(self, url: str, name: str, tuning: Tuning) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._tuning = tuning
        self._distributions = {
            argument: _optunas(each) for argument, each in tuning.search_space.items()
        }
        self._study = _open(url, name)

    def ended(self) -> list[Trial]:
        """Return the trials that came to an end, at most as many as the recipe wants."""
        trials = self._study.get_trials(deepcopy=False, states=_ENDED)
        return [
            Trial(
                number,
                _arguments(trial.params, self._tuning.search_space),
                tuple(score for _, score in sorted(trial.intermediate_values.items())),
                trial.state == TrialState.PRUNED,
                *_times(trial),
            )
            for number, trial in enumerate(trials[: self._tuning.n_trials])
        ]

    def begin(self) -> RunningTrial:
        """Return the next trial, its arguments chosen from what was found so far."""
        number = len(self._study.get_trials(deepcopy=False, states=_ENDED))
        [seed] = np.random.SeedSequence([self._tuning.seed, number]).generate_state(1)
        # Without the liar, a trial that was killed years ago would count as one that runs.
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=False)
        # On edges of a range its formulas divide by 0, and come to the right end.
        with np.errstate(all="ignore"):
            trial = self._study.ask(self._distributions)
        return RunningTrial(self._study, trial, _arguments(trial.params, self._tuning.search_space))


@dataclass(frozen=True)
class RunningTrial:
    """A trial that was begun; it counts when `end` was called."""

    _study: optuna.Study
    _trial: optuna.Trial
    arguments: dict[str, Any]

    def report(self, fold: int, score: float) -> None:
        """Note the score of a fold; folds count from 0."""
        self._trial.report(score, fold)

    def is_hopeless(self) -> bool:
        """Return whether its scores so far are below the median of the others'."""
        return self._trial.should_prune()

    def end(self, score: float | None) -> None:
        """Let it count, with its score, or as pruned."""
        if score is None:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, score)

    def abandon(self) -> None:
        """Let it not count: it neither has a score nor is known to have a bad one."""
        self._study.tell(self._trial, state=TrialState.FAIL, skip_if_finished=True)


def _open(url: str, name: str) -> optuna.Study:
    _require_url(url)
    engine: dict[str, Any] = {}
    path = url.removeprefix("sqlite:///")
    told, hint = "OPTUNA_STORAGE", "correct it, or unset it to keep trials in mlruns/optuna.db"
    if path != url:
        _make_folder(Path(path).parent)
        engine = {"connect_args": {"timeout": _LOCK_SECONDS}}
        told, hint = path, "move it away; tuning then starts with the first trial"
    for seconds in (0.5, 1, 0):
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=engine)
            return optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(),
                load_if_exists=True,
            )
        except (OptunaError, SQLAlchemyError, RuntimeError, ImportError) as err:
            failure = err
            time.sleep(seconds)  # another training may be creating the same tables
    reason = str(failure).partition("\n")[0]  # the others name SQL and web pages
    raise RunnerError(
        f"{told}: cannot be used as Optuna's storage: {reason}", hint=hint
    ) from failure


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise RunnerError(
            f"{folder}: cannot be made ({err.strerror}), so trials cannot be kept there",
            hint="name another file in OPTUNA_STORAGE, or unset it",
        ) from err


def _require_url(url: str) -> None:
    """Raise where a password that is written as it is would be read as host or port, and shown."""
    try:
        host = make_url(url).host or ""
    except (ArgumentError, ValueError):
        host = "@"
    if "@" in host:
        raise RunnerError(
            "OPTUNA_STORAGE is not the URL of a database",
            hint="write postgresql://user:password@host:port/database, and in the password %40 for "
            "@, %3A for : and %2F for /",
        )


def _optunas(distribution: Distribution) -> BaseDistribution:
    if distribution.kind == "choice":
        # As JSON: to Optuna 1, 1.0 and true are one choice, to scikit-learn they are three.
        return CategoricalDistribution([json.dumps(value) for value in distribution.values])
    low, high = distribution.values
    if distribution.kind == "int":
        return IntDistribution(low, high, log=distribution.log, step=distribution.step)
    return FloatDistribution(low, high, log=distribution.log)


def _arguments(
    found: Mapping[str, Any], search_space: Mapping[str, Distribution]
) -> dict[str, Any]:
    return {
        name: json.loads(found[name]) if distribution.kind == "choice" else found[name]
        for name, distribution in search_space.items()
    }


def _times(trial: FrozenTrial) -> tuple[datetime, datetime]:
    """Return start and end; Optuna stores them in local time without a zone."""
    started, ended = trial.datetime_start, trial.datetime_complete
    assert started is not None  # noqa: S101 - only of trials that ended
    assert ended is not None  # noqa: S101 - likewise
    return started.astimezone(), ended.astimezone()
