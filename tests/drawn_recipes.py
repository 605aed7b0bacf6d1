"""Hypothesis strategies: right recipes, and recipes with anything in some lines."""

from __future__ import annotations

from hypothesis import strategies as st

from runner.recipes.estimators import ESTIMATORS, SCORERS, THRESHOLD_SCORERS, names_of
from tests.recipe_files import LINES

LETTERS = "abcxyzABCXYZ_0189"
identifiers = st.text(LETTERS, min_size=1, max_size=12).map("_{}".format)
names = st.text(LETTERS + ".-", max_size=20).map("7{}".format)
durations = st.builds("{}{}".format, st.integers(1, 36_500), st.sampled_from("smhd"))
texts = st.text(st.characters(max_codepoint=0xD7FF, exclude_categories=["Cc"]), max_size=30)
arguments = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def distributions(draw):
    """Draw a right distribution of the search space."""
    log, kind = draw(st.booleans()), draw(st.sampled_from(["int", "float", "choice"]))
    if kind == "choice":
        scalars = st.none() | st.booleans() | st.integers(-99, 99) | texts | st.floats(-9, 9)
        return {"choice": draw(st.lists(scalars, min_size=1, max_size=4, unique_by=repr))}
    low = draw(st.integers(1, 99) if kind == "int" else st.floats(0.01, 99))
    if kind == "float":
        return {"float": [low, low + draw(st.floats(1, 9))], "log": log}
    step = 1 if log else draw(st.integers(1, 9))
    return {"int": [low, low + step * draw(st.integers(1, 9))], "log": log, "step": step}


@st.composite
def tunings(draw, fixed):
    """Draw a right tuning of arguments that are not in `fixed`."""
    return {
        "n_trials": draw(st.integers(1, 10_000)),
        "timeout": draw(st.none() | durations),
        "folds": draw(st.integers(1, 20)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "search_space": draw(
            st.dictionaries(
                texts.filter(lambda name: name not in fixed),
                distributions(),
                min_size=1,
                max_size=3,
            )
        ),
    }


@st.composite
def recipes(draw):
    """Draw the content of a right recipe, what may be left out sometimes left out."""
    task = draw(st.sampled_from(["classification", "regression"]))
    views = draw(st.lists(identifiers, min_size=1, max_size=4, unique=True))
    features = [f"{view}:{draw(identifiers | st.just('*'))}" for view in views]
    scoring = draw(
        st.lists(st.sampled_from(names_of(SCORERS, task)), min_size=1, max_size=4, unique=True)
    )
    init_args = draw(st.dictionaries(texts, arguments, max_size=3))
    if task == "classification":
        calibration = st.fixed_dictionaries(
            {"method": st.sampled_from(["sigmoid", "isotonic"]), "period": durations}
        )
        chosen = st.fixed_dictionaries(
            {"maximize": st.sampled_from(THRESHOLD_SCORERS), "period": durations}
        )
        fixed = st.fixed_dictionaries({"value": st.floats(0, 1)})
        probabilities = {
            "calibration": draw(calibration),
            "decision_threshold": draw(chosen | fixed),
        }
    else:
        probabilities = {}
    optional = {
        **probabilities,
        "slices": draw(
            st.lists(
                # Of `view:*`, any feature.
                identifiers | st.sampled_from([each.replace("*", "x") for each in features]),
                max_size=3,
                unique=True,
            )
        ),
        "feature_overrides": draw(st.lists(st.sampled_from(features), max_size=3, unique=True)),
        "description": draw(texts),
        "tuning": draw(tunings(init_args)),
        "preprocessing": {
            "numeric": {"impute": draw(st.sampled_from(["median", "mean", "zero"]))},
            "categorical": {"min_frequency": draw(st.integers(1, 10**6))},
        },
        "gate": {scoring[0]: draw(st.floats(-1e6, 0))},
        "monitor": {
            "max_drift": draw(st.floats(0, 1)),
            "min_scores": {scoring[0]: draw(st.floats(-1e6, 0))},
            "compare_by": draw(st.sampled_from(["weekday", "month"])),
        },
    }
    return {
        "registered_model_name": draw(names),
        "experiment_name": draw(names),
        "task": task,
        "spine": draw(identifiers),
        "label": draw(identifiers),
        "features": features,
        "split": {"test": draw(durations), "embargo": draw(durations)},
        "estimator": {
            "class_path": draw(st.sampled_from(names_of(ESTIMATORS, task))),
            "init_args": init_args,
        },
        "scoring": scoring,
        **{key: value for key, value in optional.items() if draw(st.booleans())},
    }


# Every key that a recipe may have, each on a line of its own.
WHOLE = [
    *LINES,
    "tuning:",
    "  n_trials: 9",
    "  timeout: 10m",
    "  search_space:",
    "    max_depth: {int: [2, 9], log: true}",
    "    max_features: {choice: [sqrt, 0.5]}",
    "calibration:",
    "  method: sigmoid",
    "  period: 14d",
    "decision_threshold:",
    "  maximize: f1",
    "  period: 14d",
    "min_shadow_days: 7",
    'slices: [category_id, "user_activity:orders_7d"]',
    'feature_overrides: ["user_activity:orders_7d"]',
    "request: [channel]",
    "on_missing_entity: {user_activity: null}",
    "asked_at: [hour]",
    "time_zone: Europe/Berlin",
    "derived:",
    "  orders_per_day: orders_7d / 7",
    "monitor:",
    "  max_drift: 0.2",
    "  min_scores: {roc_auc: 0.7}",
    "  max_missing: 0.05",
    "  max_age: 26h",
    "  max_skew: 0.01",
    "  compare_by: weekday",
]
LINE = st.integers(0, len(WHOLE) - 1)
VALUE = st.sampled_from(
    ["", "null", "true", "-1", "1e999", "x", "[]", "{}", "[1, {a: b}]", "{a: [b]}", "'", "*a", "7d"]
)


def spoil(changes):
    """Return the whole recipe with other values in these lines, as a file's content."""
    lines = [
        f"{line.partition(':')[0]}: {changes[i]}" if i in changes else line
        for i, line in enumerate(WHOLE)
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


spoiled = st.dictionaries(LINE, VALUE | st.text(max_size=20), min_size=1, max_size=4).map(spoil)
