"""Which views have nothing for a row, and what is done about it: by row and in batches alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.missing_views import MissingViews
from runner.commands.online.absent_views import absent_views, null_rows, refuse_missing, view_names
from runner.errors import RunnerError
from runner.recipes.recipe import load_recipe
from tests.recipe_files import recipe_text

PROJECTIONS = ["a", "b[x]", "a", "b[y]"]
VALUES = st.none() | st.floats(0, 1)


def bundle(**rules: Any) -> Any:
    """Return what is read of a bundle: four features of three views."""
    return SimpleNamespace(
        features=[SimpleNamespace(name=f"f{n}") for n in range(len(PROJECTIONS))],
        missing_views=MissingViews(PROJECTIONS, rules),
        on_missing_entity=rules,
    )


def columns(rows: list[list[float | None]]) -> pa.Table:
    arrays = [pa.array([row[n] for row in rows], pa.float64()) for n in range(len(PROJECTIONS))]
    return pa.table(arrays, names=[f"f{n}" for n in range(len(PROJECTIONS))])


@given(st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=1, max_size=8))
def test_a_row_and_a_batch_name_the_same_views(rows: list[list[float | None]]) -> None:
    read = bundle(a="null")
    absent = absent_views(read, columns(rows))
    by_row = [list(read.missing_views.of(row)) for row in rows]
    named = view_names(absent, len(rows)).to_pylist()
    assert named == [", ".join(names) or None for names in by_row]
    unanswered = null_rows(read, absent, len(rows)).tolist()
    assert unanswered == [read.missing_views.action(names) == "null" for names in by_row]


def test_the_strictest_rule_of_the_views_that_have_nothing_counts() -> None:
    views = MissingViews(PROJECTIONS, {"a": "null", "b[x]": "error"})
    assert views.action([]) == "predict"
    assert views.action(["b[y]"]) == "predict"
    assert views.action(["a", "b[y]"]) == "null"
    assert views.action(["a", "b[x]"]) == "error"


def test_a_batch_stops_at_the_first_row_that_is_not_to_be_predicted() -> None:
    read = bundle(a="error")
    absent = absent_views(read, columns([[1.0] * 4, [None, 1.0, None, 1.0]]))
    with pytest.raises(RunnerError, match="a has nothing for row 12, and the recipe says"):
        refuse_missing(read, absent, before=10)
    refuse_missing(bundle(a="null"), absent, before=10)


@pytest.mark.parametrize(
    ("written", "rules"),
    [
        ("error", {"user_demographics": "error", "user_activity": "error"}),
        ("null", {"user_demographics": "null", "user_activity": "null"}),
        ("predict", {}),
        ("{user_activity: null, user_demographics: predict}", {"user_activity": "null"}),
    ],
)
def test_a_recipe_has_one_rule_or_one_by_view(tmp_path: Any, written: str, rules: Any) -> None:
    path = tmp_path / "rf.yaml"
    path.write_text(recipe_text({17: f"on_missing_entity: {written}"}))
    assert load_recipe(path).missing_rules == rules


def test_a_rule_is_of_a_version_or_role_as_features_name_it(tmp_path: Any) -> None:
    path = tmp_path / "rf.yaml"
    features = 'features: ["user_activity.v2:*", "user_demographics[giver]:*"]'
    rules = 'on_missing_entity: {user_activity.v2: error, "user_demographics[giver]": null}'
    path.write_text(recipe_text({7: features, 17: rules}))
    expected = {"user_activity_v2": "error", "user_demographics[giver]": "null"}
    assert load_recipe(path).missing_rules == expected


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("maybe", ": expected predict, null or error, got 'maybe'"),
        ("[error]", ": expected predict, null or error, got a list"),
        ("{user_activity: 3}", ".user_activity: expected predict, null or error, got 3"),
        ("{user_activty: null}", ".user_activty: no feature is of 'user_activty' (did you mean"),
    ],
)
def test_a_rule_that_is_none_or_of_no_view_is_told(tmp_path: Any, written: str, told: str) -> None:
    path = tmp_path / "rf.yaml"
    path.write_text(recipe_text({17: f"on_missing_entity: {written}"}))
    with pytest.raises(RunnerError) as refused:
        load_recipe(path)
    assert f"on_missing_entity{told}" in refused.value.message
