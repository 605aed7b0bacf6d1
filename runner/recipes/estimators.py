"""What a recipe may name: a closed list of estimators and scikit-learn's scorers.

No dotted path from a recipe is ever imported: a `class_path` is looked up here, and what is
imported is what stands here. The lists are written out, so that reading a recipe does not wait
seconds for scikit-learn; tests compare them with scikit-learn and skl2onnx. Estimators of LightGBM
and XGBoost stand here too, of use where an extra of this package has installed them.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from runner.recipes.served_arguments import not_served
from runner.recipes.yaml_source import KeyPath, Problem
from runner.wording import did_you_mean, show

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from runner.recipes.recipe import Recipe

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class AllowedEstimator:
    """An estimator that recipes may name.

    Attributes
    ----------
    scaled
        Whether it wants features of one scale: linear models, distances and networks do, trees
        do not.
    accepts_nan
        Whether it takes missing numbers as they are.
    onnx
        Whether skl2onnx converts it, or `runner.packaging.boosters` has it do so; the others are
        served in the skops format.
    extra
        Whether `module` is no part of scikit-learn, but a package of its own that the extra of the
        same name installs. Served as ONNX or not at all.
    """

    module: str
    name: str
    task: Task
    scaled: bool = False
    accepts_nan: bool = False
    onnx: bool = True
    extra: bool = False

    @property
    def import_path(self) -> str:
        """The module to import it from."""
        return self.module if self.extra else f"sklearn.{self.module}"

    @property
    def class_path(self) -> str:
        """What recipes write, such as `sklearn.linear_model.Ridge`."""
        return f"{self.import_path}.{self.name}"

    @property
    def library(self) -> str:
        """The library's name, as its makers write it."""
        return {"lightgbm": "LightGBM", "xgboost": "XGBoost"}.get(self.module, "scikit-learn")


@dataclass(frozen=True)
class AllowedScorer:
    """A scorer that recipes may name. All are greater-is-better.

    Attributes
    ----------
    best
        The score of a perfect model.
    probabilities
        Whether it looks at probabilities rather than predicted labels.
    """

    name: str
    task: Task
    best: float = 1.0
    probabilities: bool = False


# Classifiers without `predict_proba` are not here: serving answers probabilities.
_CLASSIFIERS = (
    AllowedEstimator("linear_model", "LogisticRegression", "classification", scaled=True),
    AllowedEstimator("ensemble", "RandomForestClassifier", "classification", accepts_nan=True),
    AllowedEstimator("ensemble", "ExtraTreesClassifier", "classification", accepts_nan=True),
    AllowedEstimator(
        "ensemble", "HistGradientBoostingClassifier", "classification", accepts_nan=True
    ),
    AllowedEstimator("ensemble", "GradientBoostingClassifier", "classification"),
    AllowedEstimator("tree", "DecisionTreeClassifier", "classification", accepts_nan=True),
    AllowedEstimator("neighbors", "KNeighborsClassifier", "classification", scaled=True),
    AllowedEstimator("neural_network", "MLPClassifier", "classification", scaled=True),
    AllowedEstimator("naive_bayes", "GaussianNB", "classification"),
    AllowedEstimator("dummy", "DummyClassifier", "classification", onnx=False),
    AllowedEstimator("lightgbm", "LGBMClassifier", "classification", accepts_nan=True, extra=True),
    AllowedEstimator("xgboost", "XGBClassifier", "classification", accepts_nan=True, extra=True),
)
_REGRESSORS = (
    AllowedEstimator("linear_model", "LinearRegression", "regression", scaled=True),
    AllowedEstimator("linear_model", "Ridge", "regression", scaled=True),
    AllowedEstimator("linear_model", "Lasso", "regression", scaled=True),
    AllowedEstimator("linear_model", "ElasticNet", "regression", scaled=True),
    AllowedEstimator("linear_model", "HuberRegressor", "regression", scaled=True),
    AllowedEstimator("linear_model", "PoissonRegressor", "regression", scaled=True),
    AllowedEstimator("ensemble", "RandomForestRegressor", "regression", accepts_nan=True),
    AllowedEstimator("ensemble", "ExtraTreesRegressor", "regression", accepts_nan=True),
    AllowedEstimator("ensemble", "HistGradientBoostingRegressor", "regression", accepts_nan=True),
    AllowedEstimator("ensemble", "GradientBoostingRegressor", "regression"),
    AllowedEstimator("tree", "DecisionTreeRegressor", "regression", accepts_nan=True),
    AllowedEstimator("neighbors", "KNeighborsRegressor", "regression", scaled=True),
    AllowedEstimator("neural_network", "MLPRegressor", "regression", scaled=True),
    AllowedEstimator("dummy", "DummyRegressor", "regression", onnx=False),
    AllowedEstimator("lightgbm", "LGBMRegressor", "regression", accepts_nan=True, extra=True),
    AllowedEstimator("xgboost", "XGBRegressor", "regression", accepts_nan=True, extra=True),
)
ESTIMATORS: Mapping[str, AllowedEstimator] = {
    estimator.class_path: estimator for estimator in (*_CLASSIFIERS, *_REGRESSORS)
}

# What every LightGBM of ours is given: not a line on stdout, and the same trees each time. Left to
# itself it times two ways of summing, and takes the quicker one.
_LIGHTGBM_ARGUMENTS = {"verbosity": -1, "deterministic": True, "force_col_wise": True}
# Arguments of XGBoost that want objects of Python, rows beside the training rows, or the columns
# that preprocessing makes; and what stands for missing, which preprocessing has filled in.
_NOT_IN_RECIPES = {
    *("callbacks", "early_stopping_rounds", "feature_types", "feature_weights", "missing"),
}

_LABEL_SCORERS = (
    *("accuracy", "balanced_accuracy", "matthews_corrcoef"),
    *("f1", "f1_macro", "f1_micro", "f1_weighted"),
    *("precision", "precision_macro", "precision_micro", "precision_weighted"),
    *("recall", "recall_macro", "recall_micro", "recall_weighted"),
    *("jaccard", "jaccard_macro", "jaccard_micro", "jaccard_weighted"),
)
_PROBABILITY_SCORERS = (
    *("roc_auc", "average_precision", "neg_log_loss", "neg_brier_score"),
    *("roc_auc_ovr", "roc_auc_ovr_weighted", "roc_auc_ovo", "roc_auc_ovo_weighted"),
)
_REGRESSION_SCORERS = (
    *("r2", "explained_variance", "neg_max_error", "neg_median_absolute_error"),
    *("neg_mean_absolute_error", "neg_mean_absolute_percentage_error"),
    *("neg_mean_squared_error", "neg_root_mean_squared_error"),
    *("neg_mean_squared_log_error", "neg_root_mean_squared_log_error"),
    *("neg_mean_poisson_deviance", "neg_mean_gamma_deviance"),
)


def _best(name: str) -> float:
    return 0.0 if name.startswith("neg_") else 1.0  # a negated loss


SCORERS: Mapping[str, AllowedScorer] = {
    scorer.name: scorer
    for scorer in (
        *(AllowedScorer(name, "classification", _best(name)) for name in _LABEL_SCORERS),
        *(
            AllowedScorer(name, "classification", _best(name), probabilities=True)
            for name in _PROBABILITY_SCORERS
        ),
        *(AllowedScorer(name, "regression", _best(name)) for name in _REGRESSION_SCORERS),
    )
}


# What a decision threshold may be chosen for. Precision and recall are not here: alone, each is
# best where nearly no row, or every row, is predicted to be of the second class.
THRESHOLD_SCORERS = tuple(
    name for name in _LABEL_SCORERS if not name.startswith(("precision", "recall"))
)


def names_of(
    allowed: Mapping[str, AllowedEstimator] | Mapping[str, AllowedScorer], task: str | None
) -> list[str]:
    """Return the names in `allowed` that fit the task; all of them where it is not known."""
    return [name for name, entry in allowed.items() if task in {None, entry.task}]


def wants_scaling(class_path: str) -> bool:
    """Return whether the estimator wants its numeric features scaled."""
    return ESTIMATORS[class_path].scaled


def build_estimator(recipe: Recipe) -> BaseEstimator:
    """Return the recipe's estimator, unfitted, with its `init_args` checked by its library.

    Raises
    ------
    RunnerError
        If there is no such argument, or the library does not take its value; every such argument
        is named with its place in the recipe. Or if the library is not installed.
    """
    problems = argument_problems(recipe)
    if problems:
        raise recipe.source.errors(problems)
    always = _LIGHTGBM_ARGUMENTS if _allowed(recipe).module == "lightgbm" else {}
    estimator: BaseEstimator = _class_of(recipe)(**always, **recipe.estimator.init_args)
    return estimator


def fit_errors(recipe: Recipe) -> tuple[type[Exception], ...]:
    """Return what fitting raises when arguments contradict each other or do not suit the rows."""
    if _allowed(recipe).module == "lightgbm":
        from lightgbm.basic import LightGBMError

        return ValueError, LightGBMError
    return (ValueError,)  # XGBoostError is one


def library(recipe: Recipe) -> str:
    """Return the name of the library that fits the recipe's estimator, such as `scikit-learn`."""
    return _allowed(recipe).library


def fitting(recipe: Recipe) -> str:
    """Return what fitting does, in a few words, such as `scikit-learn: fit Ridge`."""
    return f"{library(recipe)}: fit {_allowed(recipe).name}"


def argument_problems(recipe: Recipe) -> list[Problem]:
    """Return the arguments, fixed or searched for, that the estimator does not have or take.

    Raises
    ------
    RunnerError
        If the estimator's library is not installed.
    """
    cls = _class_of(recipe)
    if _allowed(recipe).extra:  # their signatures end in **kwargs
        known = [name for name in cls().get_params() if name not in _NOT_IN_RECIPES]
        wrong_value = _wrong_type
    else:
        known = list(inspect.signature(cls).parameters)
        wrong_value = _wrong_value
    hint = f"{cls.__name__} takes {', '.join(known)}"
    problems = []
    for path, values in _arguments(recipe):
        name = str(path[-1])
        if name not in known:
            problem = f"{cls.__name__} has no such argument{did_you_mean(name, known)}"
            problems.append(Problem(path, problem, hint))
            continue
        for place, value in values.items():
            problem = wrong_value(cls, name, value) or not_served(cls.__name__, name, value)
            if problem:
                problems.append(Problem(path + place, problem, hint))
    return problems


def _arguments(recipe: Recipe) -> Iterator[tuple[KeyPath, dict[KeyPath, Any]]]:
    """Yield each argument's path with its values by where they stand below it.

    One that is fixed has one value; one that is searched for, its choices or both ends.
    """
    for name, value in recipe.estimator.init_args.items():
        yield ("estimator", "init_args", name), {(): value}
    for name, distribution in recipe.tuning.search_space.items() if recipe.tuning else ():
        places = ((distribution.kind, i) for i in range(len(distribution.values)))
        yield (
            ("tuning", "search_space", name),
            dict(zip(places, distribution.values, strict=True)),
        )


def _allowed(recipe: Recipe) -> AllowedEstimator:
    return ESTIMATORS[recipe.estimator.class_path]


def _class_of(recipe: Recipe) -> Any:
    allowed = _allowed(recipe)
    try:
        return getattr(importlib.import_module(allowed.import_path), allowed.name)
    except (ImportError, OSError) as err:
        if not allowed.extra:
            raise
        missing = isinstance(err, ModuleNotFoundError) and err.name == allowed.module
        reason = "is not installed" if missing else f"cannot be loaded: {err}"
        hint = f"run `pip install 'recipe-runner[{allowed.module}]'`"
        if "libgomp" in str(err):  # LightGBM's wheel expects it of the system
            hint = "install it: `apt-get install libgomp1` on Debian and Ubuntu"
        path = ("estimator", "class_path")
        raise recipe.error(path, f"{allowed.library} {reason}", hint=hint) from err


def _wrong_value(cls: Any, name: str, value: Any) -> str:
    """Return what is wrong with an argument's value; nothing if scikit-learn takes it."""
    try:
        # All others at their defaults: scikit-learn tells only the first wrong one.
        cls(**{name: value})._validate_params()
    except ValueError as err:
        expected = str(err).partition(" must be ")[2].partition(". Got ")[0]
        return f"expected {_readable(expected)}, got {show(value)}"
    return ""


def _wrong_type(cls: Any, name: str, value: Any) -> str:
    """Return what is wrong with an argument's type, by the annotation; nothing if it fits.

    LightGBM and XGBoost look at values only when they fit.
    """
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):  # XGBoost's classifiers leave most to their base's **kwargs
        hints |= get_type_hints(base.__init__) if "__init__" in vars(base) else {}
    united = get_origin(hints[name]) in {Union, UnionType}
    choices = get_args(hints[name]) if united else (hints[name],)
    types = {get_origin(choice) or choice for choice in choices}
    if type(value) in types or (type(value) is int and float in types):
        return ""
    names = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", list: "list"}
    told = [word for kind, word in names.items() if kind in types]
    told += ["null"] if NoneType in types else []
    return f"expected {' or '.join(told)}, got {show(value)}"


def _readable(expected: str) -> str:
    """Return scikit-learn's description of a parameter in a recipe's words, always the same."""
    expected = re.sub(
        r"an instance of 'bool'( or an instance of 'numpy.bool_?')?", "bool", expected
    )
    expected = re.sub(r"an instance of '(dict|int|list)'", r"\1", expected)
    expected = expected.replace("None", "null")
    return re.sub(r"{(.*?)}", lambda names: ", ".join(sorted(names[1].split(", "))), expected)
