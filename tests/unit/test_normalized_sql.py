"""Which columns of a query a feature needs, where their use is not written out by name."""

import pytest

from runner.lineage.feature_definitions import DbtQuery, Definitions, ViewContract

KEYS = "user_id, event_timestamp"


def definitions(sql, dialect, feature):
    keys = {"user_id": "int64"}
    view = ViewContract("model.m", keys, {feature: "int64"}, "event_timestamp", None, None)
    return Definitions(dialect, {"m": view}, {"model.m": DbtQuery(sql, {})})


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        (
            "postgres",
            (
                f"with c as (select {KEYS}, x as text from t), u as (select distinct * from c)"
                f" select {KEYS}, count(*) as n from u group by 1, 2"
            ),
        ),
        (
            "postgres",
            (
                f"with c as (select {KEYS}, n, x as text from t),"
                f" u as (select * from c order by 4 limit 5) select {KEYS}, n from u"
            ),
        ),
        (
            "postgres",
            (
                f"select {KEYS}, n, x as text from t"
                f" union all select {KEYS}, n, x from u order by 4 limit 5"
            ),
        ),
        (
            "bigquery",
            (
                f"with c as (select {KEYS}, x as text from t),"
                f" u as (select *, count(*) as n from c group by all) select {KEYS}, n from u"
            ),
        ),
        (
            "bigquery",
            (
                f"with c as (select {KEYS}, kind, amount, x as text from t)"
                f" select {KEYS}, n from c pivot (sum(amount) for kind in ('n'))"
            ),
        ),
        (
            "bigquery",
            (
                f"with c as (select {KEYS}, x as text from t)"
                f" select {KEYS}, n from ml.predict(model m, table c)"
            ),
        ),
        ("bigquery", f"select {KEYS}, x as N from t"),
    ],
    ids=["distinct", "star by number", "union by number", "group by all", "pivot", "ml", "case"],
)
def test_a_column_that_is_used_without_its_name_is_needed(dialect, sql):
    feature = "N" if " as N " in sql else "n"
    before = definitions(sql, dialect, feature)
    after = definitions(sql.replace(" x as", " y as"), dialect, feature)
    assert before.changes(after, "m", feature)
