"""What a recipe may name: a closed list of estimators and scikit-learn's scorers.

No dotted path from a recipe is ever imported: a `class_path` is looked up here, and what is
imported is listed here. The lists are written out, so that reading a recipe does not wait
seconds for scikit-learn; tests compare them with scikit-learn and skl2onnx. Estimators of LightGBM
and XGBoost stand here too, of use where an extra of this package has installed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "regression"]
BOOSTERS = ("lightgbm.", "xgboost.")
"""How the names of estimators begin that are served as ONNX or not at all."""


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


def is_onnx_or_nothing(class_path: str, encode: str) -> bool:
    """Return whether the estimator, with text encoded so, is served as ONNX or not at all."""
    has_categories = encode == "ordinal" and "HistGradientBoosting" in class_path
    return has_categories or class_path.startswith(BOOSTERS)


def wants_scaling(class_path: str) -> bool:
    """Return whether the estimator wants its numeric features scaled."""
    return ESTIMATORS[class_path].scaled
