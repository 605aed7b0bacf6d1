"""`runner new`: a commented recipe for a spine, with every feature mart that joins to it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path

from runner.duration import format_duration
from runner.errors import CombinedError, RunnerError
from runner.project import dbt
from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, Manifest, Spine
from runner.settings import Settings
from runner.wording import did_you_mean

_NAME = "[A-Za-z][A-Za-z0-9_-]{0,99}"
_CALIBRATION = """\
# Calibrates the probabilities on rows that the model was not fitted on.
# calibration: {method: sigmoid, period: 28d}
"""
_THRESHOLD = """\
# Predicts the second class from a probability chosen on rows before the test period.
# decision_threshold: {maximize: f1, period: 28d}
"""
_TWO_CLASSES = {
    "task": "classification",
    "estimator": "RandomForestClassifier",
    "scoring": "roc_auc, average_precision, neg_log_loss",
    "gate": "roc_auc: 0.7",
    "more": _CALIBRATION + _THRESHOLD,
}
_MORE_CLASSES = _TWO_CLASSES | {
    "scoring": "roc_auc_ovr, balanced_accuracy, neg_log_loss",
    "gate": "roc_auc_ovr: 0.7",
    "more": _CALIBRATION,
}
_NUMBER = {
    "task": "regression",
    "estimator": "RandomForestRegressor",
    "scoring": "r2, neg_mean_absolute_error",
    "gate": "r2: 0.1",
    "more": "",
}
# A whole number is taken for a flag; one that counts needs `task: regression` by hand.
_BY_DTYPE = {
    **dict.fromkeys(("bool", "int32", "int64"), _TWO_CLASSES),
    "string": _MORE_CLASSES,
    **dict.fromkeys(("float32", "float64"), _NUMBER),
}

_TEMPLATE = """\
# yaml-language-server: $schema=../schemas/recipe.schema.json
# `runner help recipe` describes every key. Check it with: runner check recipes/{name}.yaml

# The model's name in MLflow's registry. Each training registers a version of it.
registered_model_name: {name}
# The MLflow experiment that its runs belong to; keep recipes on one label in one.
experiment_name: {label}
# What the model is for, in a sentence.
description: Predicts {label} of {spine}.
# classification predicts a class, regression a number.
task: {task}

# The dbt model that says which rows to train on: entity keys, event_timestamp, label.
spine: {spine}
# The column of the spine to predict.
label: {label}
# view:* is every feature of a feature mart, view:feature a single one. Each is joined as it was
# knowable at the row's event_timestamp. Delete what the model must not use.
features:
{features}
# Columns of the spine that are model inputs, sent by the client with each request.
# request: [{request}]
# The newest rows, for the duration of `test`, test the model. Rows within `embargo` before them are
# not used: their labels are decided during the test period.
split: {{test: 28d, embargo: {window}}}

# What is fitted: any estimator that `runner help recipe` lists, with scikit-learn's own arguments.
# With a random_state, the same rows give the same model.
estimator:
  class_path: sklearn.ensemble.{estimator}
  init_args: {{n_estimators: 200, min_samples_leaf: 20, n_jobs: -1, random_state: 0}}

# Scores on the test rows, all greater-is-better. The first decides whether a new version beats the
# champion. `runner help recipe` lists those for two classes, more classes, and numbers.
scoring: [{scoring}]
# A champion must score at least this. Set it a little below what the first training reaches.
# gate: {{{gate}}}
# Columns of the spine, or features: the test rows are also scored for each of their values.
# slices: []
# Features whose values a prediction request may replace.
# feature_overrides: []
{more}"""


def write_recipe(settings: Settings, name: str, spine: str | None, label: str | None) -> Path:
    """Write `recipes/<name>.yaml` for the spine and its label; return its path.

    Parameters
    ----------
    spine, label
        None: the only one there is.

    Raises
    ------
    RunnerError
        If the file exists, a spine or label is unknown or not the only one, no feature mart joins
        to the spine, or dbt cannot read the project.
    """
    path = _new_path(settings.root, name)
    manifest = dbt.parsed(settings)
    if errors := manifest.errors.get(spine or ""):
        raise CombinedError(errors, hint=errors[0].hint)
    asked = [name for name, each in manifest.spines.items() if spine == name or not each.outcome]
    chosen = manifest.spines[_choose("spine", spine, asked)]
    text = recipe_text(name, manifest, chosen, _choose("label", label, chosen.labels))
    path.parent.mkdir(exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path


def recipe_text(name: str, manifest: Manifest, spine: Spine, label: str) -> str:
    """Return the text of a recipe that passes `runner check`.

    Raises
    ------
    RunnerError
        If no feature mart joins to the spine, or the label is neither class nor number.
    """
    dtype = spine.columns[label].dtype
    if dtype not in _BY_DTYPE:
        raise RunnerError(
            f"{spine.file}: {spine.name}.{label} is {dtype}, which is no label",
            hint="cast it in the spine's SQL to a boolean, a number or text",
        )
    features = [
        line
        for mart in manifest.marts.values()
        for role in ("", *spine.roles)
        for line in _references(mart, spine, role)
    ]
    if not features:
        raise RunnerError(
            f"no feature mart joins to {spine.name} by {', '.join(spine.join_keys)}",
            hint="add one to the dbt project; `runner help features` shows how",
        )
    known = {*spine.join_keys, *spine.labels, EVENT_TIMESTAMP}
    further = ", ".join(column for column in spine.columns if column not in known)
    return _TEMPLATE.format(
        name=name,
        request=textwrap.shorten(further, 80, placeholder=" …"),
        spine=spine.name,
        label=label,
        features="\n".join(features),
        window=format_duration(spine.labels[label]),
        **_BY_DTYPE[dtype],
    )


def _references(mart: FeatureMart, spine: Spine, role: str) -> Iterator[str]:
    """Yield the lines of the mart's features; none if it does not join to the spine in the role."""
    if role and spine.roles[role] not in mart.entities:
        return
    joins = all(
        column in spine.join_keys and spine.columns[column].dtype == mart.columns[key].dtype
        for entity, key in mart.entities.items()
        for column in [role if role and spine.roles[role] == entity else key]
    )
    if not joins or not mart.online:  # what is not online, a served model would never see
        return
    name = f"{mart.name}[{role}]" if role else mart.name
    yield f'  - "{name}:*"  # {textwrap.shorten(mart.description, 60, placeholder=" …")}'


def _choose(kind: str, wanted: str | None, known: Collection[str]) -> str:
    """Return the one that is wanted, or the only one.

    Raises
    ------
    RunnerError
        Listing them, if there are several and none is named, or there is no such one.
    """
    names = ", ".join(sorted(known))
    if wanted is not None:
        if wanted in known:
            return wanted
        raise RunnerError(
            f"no {kind} {wanted!r}{did_you_mean(wanted, known)}", hint=f"there is {names or 'none'}"
        )
    if not known:
        raise RunnerError(
            f"there is no {kind}",
            hint="add a dbt model in a folder spine_data; see `runner help features`",
        )
    if len(known) > 1:
        raise RunnerError(
            f"there are {len(known)} {kind}s: {names}", hint=f"choose one with --{kind}"
        )
    return next(iter(known))


def _new_path(root: Path, name: str) -> Path:
    if re.fullmatch(_NAME, name) is None:
        raise RunnerError(
            f"{name!r} is no name for a recipe",
            hint="use up to 100 letters, digits, _ and -, the first a letter, such as churn",
        )
    path = root / "recipes" / f"{name}.yaml"
    # As a user would type it, so that messages can be clicked.
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    if path.exists():
        raise RunnerError(f"{path} exists", hint="choose another name, or edit that file")
    return path
