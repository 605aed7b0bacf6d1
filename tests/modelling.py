"""A made-up recipe, mart, spine and rows, for tests of the modules that make a model."""

import textwrap

import numpy as np
import pyarrow as pa

from runner.feature_store.store import RecipeFeature
from runner.modelling.model_inputs import model_inputs
from runner.project.manifest import FeatureMart, MartColumn, Spine
from runner.recipes.recipe import load_recipe

CLASSIFIER = (
    "sklearn.ensemble.RandomForestClassifier, init_args: {n_estimators: 5, random_state: 0}"
)
REGRESSOR = "sklearn.ensemble.RandomForestRegressor, init_args: {n_estimators: 5, random_state: 0}"
COLUMNS = {
    name: MartColumn(name, dtype, f"The {name}.")
    for name, dtype in (
        ("user_id", "int64"),
        ("event_timestamp", "timestamp"),
        ("orders_7d", "int64"),
        ("value", "float64"),
        ("is_member", "bool"),
        ("country", "string"),
        ("y", "int64"),
    )
}
COMMON = {
    "database": "shop",
    "description": "",
    "file": "x.yml",
    "owner": "",
    "tags": (),
    "entities": {"user": "user_id"},
    "columns": COLUMNS,
    "compiled_code": None,
}
MART = FeatureMart(
    name="activity",
    schema="feature_mart",
    alias="activity",
    ttl=None,
    timestamp_field="event_timestamp",
    created_timestamp_column=None,
    online=True,
    **COMMON,
)
SPINE = Spine(name="spine_y", schema="spine_data", alias="spine_y", labels={}, **COMMON)
FEATURES = [
    RecipeFeature(MART, name, COLUMNS[name].dtype, "")
    for name in ("orders_7d", "value", "is_member", "country")
]


def make_recipe(path, estimator=CLASSIFIER, scoring="roc_auc", task="classification", more=""):
    """Write a recipe to `path` and load it."""
    path.write_text(
        textwrap.dedent(f"""
            registered_model_name: m
            experiment_name: e
            task: {task}
            spine: spine_y
            label: y
            features: ["activity:*"]
            split: {{test: 4d, embargo: 0d}}
            estimator: {{class_path: {estimator}}}
            scoring: [{scoring}]
        """)
        + more
    )
    return load_recipe(path)


def feature_table(n=400, seed=0):
    """Return n rows of features with nulls of every type."""
    rng = np.random.default_rng(seed)
    orders = [None if i % 7 == 0 else int(v) for i, v in enumerate(rng.poisson(2, n))]
    return pa.table(
        {
            "activity__orders_7d": pa.array(orders, pa.int64()),
            "activity__value": pa.array(rng.normal(size=n)),
            "activity__is_member": pa.array([None, True, False, True] * (n // 4)),
            "activity__country": pa.array([None, "de", "de", "fr"] * (n // 4)),
        }
    )


def rows(n=400, seed=0):
    """Return model inputs and labels that depend on one of them."""
    X = model_inputs(feature_table(n, seed), FEATURES)
    noise = np.random.default_rng(seed + 1).normal(size=n)
    return X, (X["activity__value"] + noise > 0).to_numpy(np.int64)
