"""Write what shap says of the models: `python -m tests.shap_values.write`.

In an environment that has shap beside what the tests need; it weighs 239 MB, so the tests do not.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import shap
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from tests.shap_values.models import EXPLAINED_ROWS, models


def explained(estimator: Any, X: Any) -> dict[str, Any]:
    """Return shap's base values and contributions, shape (n_rows, n_features, n_outputs)."""
    if isinstance(estimator, LogisticRegression | PoissonRegressor | Ridge):
        every_row = shap.maskers.Independent(X.astype(float), max_samples=len(X))
        explainer = shap.LinearExplainer(estimator, every_row)
    else:
        explainer = shap.TreeExplainer(estimator, feature_perturbation="tree_path_dependent")
    values = np.asarray(explainer.shap_values(X[:EXPLAINED_ROWS]), float)
    values = values[:, :, np.newaxis] if values.ndim == 2 else values
    base = np.atleast_1d(explainer.expected_value)
    second = slice(1, None) if values.shape[2] == 2 else slice(None)  # of two classes
    return {"base": base[second].tolist(), "contributions": values[:, :, second].tolist()}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    table = {name: explained(estimator, X) for name, estimator, X in models()}
    text = json.dumps({"shap": shap.__version__, "models": table})
    Path(__file__).with_name("values.json").write_text(text + "\n")
