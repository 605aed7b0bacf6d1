"""The recipe: one YAML file per ML model, checked as a whole before anything runs.

It says what to predict and from what. It names no address and no environment.
`docs/recipe.md` describes every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from contract.missing_views import OnMissing
from runner.errors import RunnerError
from runner.recipes.estimator_rules import (
    class_path_problems,
    missing_problems,
    tuned_argument_problems,
)
from runner.recipes.estimators import ESTIMATORS, SCORERS, Task
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.input_rules import (
    derived_name_problems,
    repeated_problems,
    request_problems,
    time_zone_problems,
)
from runner.recipes.limits import MonitorLimits
from runner.recipes.missing import MissingRules, OnMissingEntity
from runner.recipes.part import Duration, Identifier, Name, Part, PositiveDuration
from runner.recipes.preprocessing import Preprocessing
from runner.recipes.probabilities import Calibration, DecisionThreshold
from runner.recipes.problems import problems_of, refuse
from runner.recipes.recipe_files import require_recipe_file
from runner.recipes.reference_rules import (
    REFERENCE,
    SLICE,
    covers,
    missing_entity_problems,
    override_problems,
    reference_problems,
    slice_problems,
    view_name,
    with_view_names,
)
from runner.recipes.score_rules import (
    classification_problems,
    gate_problems,
    min_score_problems,
    scoring_problems,
)
from runner.recipes.tuning import Tuning
from runner.recipes.yaml_source import KeyPath, Problem, YamlSource, load_yaml


def _part(value: object) -> object:
    # Without this, an empty key would mean the same as no key.
    if value is None:
        raise ValueError("expected `key: value` lines, got nothing")
    return value


class Split(Part):
    """How rows are divided by time into training and test rows."""

    test: PositiveDuration
    """How long the test period is: the newest rows of the spine."""
    embargo: Duration
    """The length of the gap before the test period. Its rows are not used, so that no training
    label is decided inside the test period. At least the label's window."""


class Estimator(Part):
    """A scikit-learn estimator and its arguments."""

    class_path: Annotated[str, Field(json_schema_extra={"enum": list(ESTIMATORS)})]
    """One of the estimators listed in docs/recipe.md#estimators."""
    init_args: dict[str, object] = {}  # noqa: RUF012 - pydantic copies it
    """Its arguments by scikit-learn's names, checked by scikit-learn. The others keep
    scikit-learn's defaults."""


class Recipe(Part):
    """What to predict, from which features, with which estimator, and how good it must be."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["request"], "properties": {"request": {"minItems": 1}}},
            "else": {"properties": {"features": {"minItems": 1}}},
        }
    )

    registered_model_name: Name
    """The model's name in MLflow's registry: up to 100 letters, digits, `_`, `-` and `.`."""
    experiment_name: Name
    """The MLflow experiment that its runs belong to; named likewise."""
    description: Annotated[str, Field(max_length=2000)] = ""
    """What the model is for, in a sentence or two."""
    task: Task
    """What is predicted: a class or a number."""
    spine: Identifier
    """The dbt model of entity keys, `event_timestamp` and labels (docs/features.md)."""
    label: Identifier
    """The column of the spine to predict; one of its `meta.labels`."""
    request: Annotated[tuple[Identifier, ...], Field(strict=False)] = ()
    """Columns of the spine that are model inputs and that clients send with each request
    (docs/serving.md#request-inputs)."""
    features: Annotated[
        tuple[Annotated[str, Field(json_schema_extra={"pattern": REFERENCE})], ...],
        Field(strict=False),
    ]
    """Feast references: `view:feature`, or `view:*` for every feature of a feature mart;
    `view.v2:feature` for version 2 of the mart. The spine must have the mart's join keys;
    `view[role]:feature` names the role in which the spine has the entity. May be `[]` if there is a
    `request`."""
    asked_at: Annotated[tuple[Literal["hour", "weekday"], ...], Field(strict=False)] = ()
    """Parts of a row's prediction time, as model inputs `asked_at_hour` (0 to 23) and
    `asked_at_weekday` (Monday is 1). That time is `event_timestamp` in a spine, and the time of the
    request in serving."""
    time_zone: str = "UTC"
    """The time zone of `asked_at`, such as `Europe/Berlin`."""
    derived: dict[str, str] = {}  # noqa: RUF012 - likewise
    """More model inputs, by name: SQL expressions of features, request inputs and the derived
    values above them (docs/recipe.md#derived-values)."""
    split: Split
    """How rows are divided by time. A duration is a whole number and `s`, `m`, `h` or `d`."""
    preprocessing: Preprocessing = Preprocessing()
    """What happens to features before the estimator, inside the logged pipeline. Keys that are left
    out keep their defaults."""
    estimator: Estimator
    """What is fitted."""
    tuning: Annotated[Tuning | None, BeforeValidator(_part)] = None
    """Which of the estimator's arguments are searched for, and how long (docs/tuning.md)."""
    calibration: Annotated[Calibration | None, BeforeValidator(_part)] = None
    """How probabilities are made to mean what they say (docs/evaluation.md#calibration). Only for a
    classification."""
    decision_threshold: Annotated[DecisionThreshold | None, BeforeValidator(_part)] = None
    """The least probability of the second of two classes at which it is predicted
    (docs/evaluation.md#decision-threshold). Without it, the more probable class is predicted."""
    scoring: Annotated[
        tuple[Annotated[str, Field(json_schema_extra={"enum": list(SCORERS)})], ...],
        Field(strict=False, json_schema_extra={"minItems": 1}),
    ]
    """scikit-learn's names of scorers (docs/recipe.md#scorers), all greater-is-better. The first is
    the primary one."""
    gate: Annotated[
        dict[str, float], Field(json_schema_extra={"propertyNames": {"enum": list(SCORERS)}})
    ] = {}  # noqa: RUF012 - likewise
    """The least score on the test rows, by scorer. A model below one is registered, but does not
    become the `champion` (docs/gates.md)."""
    min_shadow_days: Annotated[int, Field(ge=1)] | None = None
    """The number of days on which a model must answer as a shadow before it may replace a champion
    (docs/gates.md#days-as-a-shadow)."""

    slices: Annotated[
        tuple[Annotated[str, Field(json_schema_extra={"pattern": SLICE})], ...], Field(strict=False)
    ] = ()
    """Columns of the spine, or features as `view:feature`: text, flags or whole numbers. The test
    rows of each value are scored separately (docs/evaluation.md#slices)."""

    feature_overrides: Annotated[
        tuple[Annotated[str, Field(json_schema_extra={"pattern": REFERENCE})], ...],
        Field(strict=False),
    ] = ()
    """Features, as `view:feature` or `view:*`, whose values a prediction request may bring along in
    place of those of the online store (docs/serving.md#values-of-the-moment)."""

    on_missing_entity: OnMissingEntity = "predict"
    """The answer if a view has no values for a row's keys: `predict` with missing values, `null`,
    or `error`. For every view, or per view, such as `{user_activity: error}`
    (docs/serving.md#keys-that-are-not-there)."""

    monitor: Annotated[MonitorLimits | None, BeforeValidator(_part)] = None
    """The limits of `runner monitor`, which exits with 1 if one is broken
    (docs/monitoring.md#limits)."""

    _source: YamlSource = PrivateAttr()

    @property
    def source(self) -> YamlSource:
        """The file it was read from, with the place of every value."""
        return self._source

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._source.path

    @property
    def name(self) -> str:
        """The file's name without its suffix, also the name of its Feast feature service."""
        return self.path.stem

    @property
    def feature_marts(self) -> list[str]:
        """The names of the feature marts that its features are in."""
        return sorted({FeatureReference.parse(text).view for text in self.features})

    @property
    def spine_columns(self) -> tuple[str, ...]:
        """The spine's columns that it uses beside keys, time and label: slices, request inputs."""
        slices = (name for name in self.slices if ":" not in name)
        return tuple(dict.fromkeys([*slices, *self.request]))

    @property
    def missing_rules(self) -> dict[str, OnMissing]:
        """View, or `view[role]` → the rule if it has no values, unless that is `predict`."""
        projections = dict.fromkeys(text.partition(":")[0] for text in self.features)
        given = self.on_missing_entity
        rules = given if isinstance(given, dict) else dict.fromkeys(projections, given)
        return {name: rule for name, rule in rules.items() if rule != "predict"}

    def is_overridable(self, reference: str) -> bool:
        """Whether a prediction request may bring its own value for the feature `view:feature`."""
        return covers(self.feature_overrides, reference)

    @classmethod
    def of(cls, source: YamlSource, content: Mapping[str, object]) -> Recipe:
        """Return the recipe with this content; its errors name places in `source`."""
        recipe = cls.model_validate(content)
        recipe._source = source
        return recipe

    def error(self, path: KeyPath, message: str, hint: str) -> RunnerError:
        """Return the error that says `file:line:column: key: message`."""
        return self._source.error(path, message, hint)

    def dump(self) -> dict[str, Any]:
        """Return the recipe in JSON's types, every default written out. It loads as itself."""
        dumped = self.model_dump(mode="json", by_alias=True)
        for key in ("tuning", "calibration", "decision_threshold", "min_shadow_days", "monitor"):
            if dumped[key] is None:
                del dumped[key]
        for key in ("asked_at", "derived"):
            if not dumped[key]:
                del dumped[key]
        if not self.asked_at:
            del dumped["time_zone"]
        return dumped

    def with_arguments(self, arguments: Mapping[str, object]) -> Recipe:
        """Return the recipe with these added to its `init_args`; its file stays as written."""
        init_args = {**self.estimator.init_args, **arguments}
        estimator = self.estimator.model_copy(update={"init_args": init_args})
        return self.model_copy(update={"estimator": estimator})

    # `info.data` lacks a value that is itself wrong. A rule gets None for it and does not judge by
    # it: one mistake is reported once.

    @field_validator("request")
    @classmethod
    def _check_request(cls, request: tuple[str, ...]) -> tuple[str, ...]:
        refuse(request_problems(request))
        return request

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        # A model without features needs request inputs; None: those are invalid.
        refuse(reference_problems(features, may_be_empty=info.data.get("request") != ()))
        features = with_view_names(features)
        refuse(reference_problems(features, may_be_empty=True))
        return features

    @field_validator("asked_at")
    @classmethod
    def _check_asked_at(cls, asked_at: tuple[str, ...]) -> tuple[str, ...]:
        refuse(repeated_problems(asked_at))
        return asked_at

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, time_zone: str, info: ValidationInfo) -> str:
        refuse(time_zone_problems(time_zone, info.data.get("asked_at")))
        return time_zone

    @field_validator("derived")
    @classmethod
    def _check_derived(cls, derived: dict[str, str]) -> dict[str, str]:
        refuse(derived_name_problems(derived))
        return derived

    @field_validator("estimator")
    @classmethod
    def _check_estimator(cls, estimator: Estimator, info: ValidationInfo) -> Estimator:
        refuse(class_path_problems(estimator.class_path, info.data.get("task")))
        preprocessing: Preprocessing | None = info.data.get("preprocessing")
        if preprocessing is not None:
            numeric, categorical = preprocessing.numeric, preprocessing.categorical
            refuse(missing_problems(estimator.class_path, numeric.impute, categorical.encode))
        return estimator

    @field_validator("tuning")
    @classmethod
    def _check_tuning(cls, tuning: Tuning, info: ValidationInfo) -> Tuning:
        estimator: Estimator | None = info.data.get("estimator")
        refuse(
            tuned_argument_problems(tuning.search_space, estimator.init_args if estimator else ())
        )
        return tuning

    @field_validator("calibration", "decision_threshold")
    @classmethod
    def _check_probabilities(cls, part: Part, info: ValidationInfo) -> Part:
        refuse(classification_problems(info.data.get("task")))
        return part

    @field_validator("scoring")
    @classmethod
    def _check_scoring(cls, scoring: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        refuse(scoring_problems(scoring, info.data.get("task")))
        return scoring

    @field_validator("gate")
    @classmethod
    def _check_gate(cls, gate: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        refuse(gate_problems(gate, info.data.get("scoring")))
        return gate

    @field_validator("slices")
    @classmethod
    def _check_slices(cls, slices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        slices = with_view_names(slices)
        refuse(slice_problems(slices, info.data.get("features")))
        return slices

    @field_validator("feature_overrides")
    @classmethod
    def _check_overrides(cls, overrides: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        overrides = with_view_names(overrides)
        refuse(override_problems(overrides, info.data.get("features")))
        return overrides

    @field_validator("monitor")
    @classmethod
    def _check_monitor(cls, monitor: MonitorLimits, info: ValidationInfo) -> MonitorLimits:
        refuse(min_score_problems(monitor.min_scores, info.data.get("scoring")))
        return monitor

    @field_validator("on_missing_entity")
    @classmethod
    def _check_missing(cls, rules: MissingRules, info: ValidationInfo) -> MissingRules:
        if not isinstance(rules, dict):
            return rules
        refuse(missing_entity_problems(rules, info.data.get("features")))
        return {view_name(name): rule for name, rule in rules.items()}


def load_recipe(path: Path, *, shown_as: Path | None = None) -> Recipe:
    """Return the recipe in the file at `path`.

    Parameters
    ----------
    shown_as
        The path that errors name, where the file is a copy that does not last.

    Raises
    ------
    RunnerError
        One for all that is wrong, each as `file:line:column: key: what was expected`.
    """
    require_recipe_file(path)
    source = replace(load_yaml(path), path=shown_as or path)
    try:
        recipe = Recipe.of(source, source.data)
    except ValidationError as err:
        raise source.errors(recipe_problems(source, err)) from err
    if problems := _empty_values(source):
        raise source.errors(problems)
    return recipe


def recipe_problems(source: YamlSource, invalid: ValidationError) -> list[Problem]:
    """Return what is wrong with the recipe's keys, each mistake once."""
    found = list(problems_of(invalid, Recipe))
    empty = _empty_values(source)
    return found + [
        each for each in empty if not any(p.path[: len(each.path)] == each.path for p in found)
    ]


def _empty_values(source: YamlSource) -> list[Problem]:
    """Return a problem for each key without a value: it would mean the same as no key.

    An argument of the estimator is scikit-learn's to judge.
    """
    hint = "write a value, or delete the key; `runner help recipe` describes every key"
    return [
        Problem(path, "expected a value, got nothing", hint)
        for path in source.empty
        if path[:2] != ("estimator", "init_args")
    ]
