"""The classes of a label: which part of the split has which, known before anything is joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runner.modelling.folds import Fold, time_folds
from runner.recipes.estimators import SCORERS, is_onnx_or_nothing

if TYPE_CHECKING:
    from runner.project.manifest import Spine
    from runner.recipes.recipe import Recipe
    from runner.recipes.tuning import Tuning
    from runner.recipes.yaml_source import KeyPath

_OF_TWO = {"f1", "jaccard", "precision", "recall", "roc_auc"}
Labels = npt.NDArray[np.generic]
PERIODS: Mapping[str, KeyPath] = {
    "training": ("split", "test"),
    "calibration": ("calibration", "period"),
    "validation": ("decision_threshold", "period"),
    "test": ("split", "test"),
}
_CALIBRATION_ROWS = 5  # scikit-learn's least, of each class


def class_warnings(recipe: Recipe, parts: Mapping[str, Labels]) -> list[str]:
    """Return what one should know of classes that come or go with time, a sentence each."""
    if recipe.task == "regression":
        return []
    train, test = ({name: parts[name]} for name in ("training", "test"))
    return [
        *(f"{problem}: no score shows it" for problem in _only_in(recipe, train, test)),
        *(f"{problem}: the model never predicts it" for problem in _only_in(recipe, test, train)),
    ]


def tuning_folds(
    recipe: Recipe, tuning: Tuning, timestamps: pa.ChunkedArray, y: Labels
) -> list[Fold]:
    """Return the folds of training rows at `timestamps` with labels `y`, the earliest first.

    Raises
    ------
    RunnerError
        If a fold lacks rows, or classes that its score needs.
    """
    folds = time_folds(timestamps, count=tuning.folds, embargo=recipe.split.embargo)
    if recipe.task == "classification":
        for number, fold in enumerate(folds, start=1):
            problem = _fold_problem(recipe, y[fold.train], y[fold.validation])
            if problem:
                raise recipe.error(
                    ("tuning", "folds"),
                    f"fold {number} of {len(folds)}: {problem}",
                    hint="set tuning.folds lower, or make the spine longer",
                )
    return folds


def check_classes(recipe: Recipe, spine: Spine, parts: Mapping[str, Labels]) -> None:
    """Return if each part of the split has the classes that scores and calibration need.

    Raises
    ------
    RunnerError
        If a part has one class only; if training and test rows have other classes and a scorer
        needs the same; if a scorer or a decision threshold is for two classes and there are more;
        or if a class has too few calibration rows.
    """
    _refuse_single_class(recipe, spine, parts)
    _refuse_uncalibrated(recipe, parts)
    _refuse_unscorable(recipe, parts["training"], parts["test"])


def _fold_problem(recipe: Recipe, train: Labels, validation: Labels) -> str:
    for part, y in (("training", train), ("validation", validation)):
        if len(labels := np.unique(y)) < 2:
            return f"label {recipe.label} is {labels[0]!s} in all {len(y):,} {part} rows"
    return _unscorable(recipe, recipe.scoring[:1], train, validation, "validation")


def _refuse_unscorable(recipe: Recipe, train: Labels, test: Labels) -> None:
    if problem := _unscorable(recipe, recipe.scoring, train, test, "test"):
        raise recipe.error(
            ("scoring",),
            problem,
            hint="change split.test or the spine's SQL so that both have every class, or choose "
            "scorers that look at labels, such as f1_macro",
        )
    count = len(np.union1d(train, test))
    if count > 2 and (scorer := next((name for name in recipe.scoring if name in _OF_TWO), "")):
        raise recipe.error(
            ("scoring",),
            f"label {recipe.label} has {count} classes; {scorer} is for two",
            hint="choose scorers for several classes, such as f1_macro or roc_auc_ovr",
        )


def _unscorable(
    recipe: Recipe, scoring: Sequence[str], train: Labels, other: Labels, part: str
) -> str:
    """Return which classes only one side has, if a scorer compares classes with probabilities."""
    scorer = next((name for name in scoring if SCORERS[name].probabilities), "")
    problems = [
        *_only_in(recipe, {"training": train}, {part: other}),
        *_only_in(recipe, {part: other}, {"training": train}),
    ]
    return f"{'; '.join(problems)}: {scorer} cannot be scored" if scorer and problems else ""


def _only_in(recipe: Recipe, here: Mapping[str, Labels], there: Mapping[str, Labels]) -> list[str]:
    """Return which classes of the one part, by its name, the other does not have."""
    [(name, y)], [(other, lacking)] = here.items(), there.items()
    return [
        f"label {recipe.label} is {label!s} in {(y == label).sum():,} {name} rows and in no "
        f"{other} row"
        for label in np.setdiff1d(y, lacking)
    ]


def _refuse_single_class(recipe: Recipe, spine: Spine, parts: Mapping[str, Labels]) -> None:
    for name, y in parts.items():
        classes = np.unique(y)
        if len(classes) < 2:
            raise recipe.error(
                PERIODS[name],
                f"label {recipe.label} of {spine.name} is {classes[0]!s} in all {len(y)} {name} "
                "rows: there is nothing to learn",
                hint="look at the spine's SQL, or change the period so that both classes occur",
            )


def _refuse_uncalibrated(recipe: Recipe, parts: Mapping[str, Labels]) -> None:
    """Raise unless each class has calibration rows, and a threshold has two to choose from."""
    classes = np.unique(parts["training"])
    if recipe.decision_threshold and len(classes) > 2:
        raise recipe.error(
            ("decision_threshold",),
            f"label {recipe.label} has {len(classes)} classes; a threshold needs two",
            hint="delete decision_threshold, or make a label of two classes in the spine's SQL",
        )
    if "calibration" not in parts:
        return
    estimator, encode = recipe.estimator.class_path, recipe.preprocessing.categorical.encode
    if len(classes) > 2 and is_onnx_or_nothing(estimator, encode):
        raise recipe.error(
            ("calibration",),
            f"label {recipe.label} has {len(classes)} classes; the calibration of LightGBM, "
            "XGBoost and native categories is served for two",
            hint="delete calibration, or choose another estimator, or encode: target",
        )
    y = parts["calibration"]
    for label in np.setdiff1d(y, classes):
        raise recipe.error(
            ("calibration", "period"),
            f"label {recipe.label} is {label!s} in calibration rows, but in no training row",
            hint="change the period, or the spine's SQL, so that training rows have every class",
        )
    for label in classes:
        count = int((y == label).sum())
        if count < _CALIBRATION_ROWS:
            raise recipe.error(
                ("calibration", "period"),
                f"label {recipe.label} is {label!s} in {count} of {len(y)} calibration rows; each "
                f"class wants {_CALIBRATION_ROWS} or more",
                hint="make the calibration period longer",
            )
