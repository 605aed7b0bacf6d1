"""Arguments of boosters whose models `runner.packaging` writes as ONNX.

Their models are served as ONNX or not at all, so a recipe with another value is refused by
`runner check`, not after the join and the fit. Categories are named by `encode: ordinal`: a recipe
does not know the columns that preprocessing makes.
"""

from __future__ import annotations

from collections.abc import Mapping

from runner.wording import show

_XGBOOST = {"booster": ("gbtree",)}
_SQUARED = (
    *("regression", "regression_l2", "l2", "mean_squared_error", "mse"),
    *("l2_root", "root_mean_squared_error", "rmse"),
)
_CATEGORIES = {"categorical_features": ("from_dtype",)}
SERVED_VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "HistGradientBoostingClassifier": _CATEGORIES,
    "HistGradientBoostingRegressor": _CATEGORIES,
    "LGBMClassifier": {"objective": ("binary", "multiclass", "softmax")},
    "LGBMRegressor": {
        "objective": (
            *_SQUARED,
            *("regression_l1", "l1", "mean_absolute_error", "mae"),
            *("huber", "fair", "quantile", "mape", "mean_absolute_percentage_error"),
            *("poisson", "gamma", "tweedie"),
            *("binary", "cross_entropy", "xentropy"),
        )
    },
    "XGBClassifier": {"objective": ("binary:logistic", "multi:softprob"), **_XGBOOST},
    "XGBRegressor": {
        "objective": (
            *("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror"),
            *("count:poisson", "reg:gamma", "reg:tweedie", "reg:logistic", "binary:logistic"),
        ),
        **_XGBOOST,
    },
}
"""Estimator → argument → the values that are served, aliases included. null is the default."""


def not_served(estimator: str, argument: str, value: object) -> str:
    """Return why a model with this argument cannot be served; "" if it can."""
    served = SERVED_VALUES.get(estimator, {}).get(argument)
    if served is None or value is None or value in served:
        return ""
    return f"expected one that can be served ({', '.join(served)}), got {show(value)}"
