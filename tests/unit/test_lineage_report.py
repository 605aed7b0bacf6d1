"""What `runner lineage` prints of what is not known: neither a constant nor nothing."""

import re
from dataclasses import replace

import pytest

from runner.commands.reading.column_users import User
from runner.commands.reading.lineage import LineageAnswer, find_column
from runner.commands.reading.lineage_report import as_json_types, as_mermaid, as_text
from runner.lineage.column_lineage import column_lineage
from runner.lineage.lineage_graph import LineageColumn
from tests.unit.test_column_lineage import node

ORDERS = node("orders", kind="source", schema="raw_data", identifier="orders")
NODES = [
    node("py", language="python", parents=["source.orders"], columns={"y": {"name": "y"}}),
    node(
        "mart",
        "select p.y, o.a + p.y as z, 1 as one, o.a from shop.raw_data.orders o, shop.mart.py p",
    ),
]
LINEAGE = column_lineage(
    {
        "metadata": {"adapter_type": "postgres"},
        "nodes": {each["unique_id"]: each for each in NODES},
        "sources": {"source.orders": ORDERS},
    }
)
GAP = "could not be resolved\n  py.y: it is not SQL"


def answer(*starts, recipe=False):
    what = "recipes/x.yaml" if recipe else str(starts[0])
    roles = {start: "label" if start.name == "z" else "feature" for start in starts}
    users = (User("recipes/x.yaml", "x", (), roles),) if recipe else ()
    return LineageAnswer(what, starts, LINEAGE, users, (), {})


@pytest.mark.parametrize(
    ("column", "upstream", "raw"),
    [
        ("y", "py.y", "what could not be resolved"),
        ("z", "py.y\n  raw_data.orders.a", "raw_data.orders.a\n  what could not be resolved"),
    ],
)
def test_a_column_that_is_not_wholly_known_says_so(column, upstream, raw):
    told = as_text(answer(LineageColumn("mart", column)))
    assert f"upstream\n  {upstream}\n\nraw columns\n  {raw}\n" in told
    assert told.endswith(GAP)


def test_a_constant_is_told_from_what_is_not_known():
    told = as_text(answer(LineageColumn("mart", "one")))
    assert "upstream\n  nothing: a constant\n\nraw columns\n  none\n" in told
    assert "could not be resolved" not in told
    assert "upstream\n  not known\n" in as_text(answer(LineageColumn("py", "y")))


def test_a_recipe_says_which_of_its_features_are_not_wholly_known():
    told = as_text(
        answer(*(LineageColumn("mart", name) for name in ("y", "one", "a", "z")), recipe=True)
    )
    assert "mart.y    what could not be resolved\n" in told
    assert "mart.one  a constant\n" in told
    assert "mart.a    raw_data.orders.a\n" in told
    assert "mart.z  raw_data.orders.a, what could not be resolved\n" in told
    assert told.endswith(GAP)


def test_whoever_changes_a_raw_column_is_told_which_readers_are_not_known():
    found = as_json_types(answer(LineageColumn("raw_data.orders", "a")))
    assert set(found["downstream"]) == {"mart.a", "mart.z"}
    assert found["unresolved"] == {"py.*": "it is not SQL"}


def test_names_in_capitals_are_those_that_the_warehouse_does_not_tell_apart():
    mart = node(
        "mart", "select Amount as orderAmount, k as `userId` from `shop`.`raw_data`.`orders`"
    )
    found = column_lineage(
        {
            "metadata": {"adapter_type": "bigquery"},
            "nodes": {"model.mart": mart},
            "sources": {"source.orders": ORDERS},
        }
    )
    roles = {
        LineageColumn("mart", "orderAmount"): "feature",
        LineageColumn("mart", "userId"): "key",
    }
    recipe = User("recipes/x.yaml", "x", (), roles).named_as_in(found)
    [feature, key] = recipe.columns
    assert found.raw_columns(feature) == ["raw_data.orders.amount"]
    assert found.raw_columns(key) == ["raw_data.orders.k"]
    assert find_column(found, "mart:orderAmount") == feature
    assert recipe.uses(found.downstream(find_column(found, "raw_data.orders.Amount")))


def test_a_recipe_shows_what_becomes_of_its_answers():
    taken = answer(LineageColumn("mart", "a"), recipe=True)
    version = User("x/2", "x", ("champion",), {LineageColumn("mart", "a"): "feature"})
    known = replace(taken, versions=(version,), outcome="mart")
    served = "mart                the served rows with their labels"
    figures = "monitoring.figures  drift, live quality and skew by day, by runner monitor"
    assert as_text(known).endswith(f"after the answer\n  {served}\n  {figures}")
    assert list(as_json_types(known)["after_the_answer"]) == ["mart", "monitoring.figures"]
    names = re.findall(r'(n\d+)\["(.*)"\]', as_mermaid(known))
    ids = {name: number for number, name in names}
    edges = re.findall(r"(n\d+) --> (n\d+)", as_mermaid(known))
    assert (ids["x version 2 (champion)"], ids["mart"]) in edges
    assert (ids["mart"], ids["monitoring.figures"]) in edges
    assert "after the answer" not in as_text(taken)
    assert as_json_types(taken)["after_the_answer"] == {}
