"""The order of a spine's SQL, taken from its text."""

import pytest

from runner.errors import RunnerError
from runner.warehouse.bigquery.order import with_order

NAMES = ["id", "at", "Label"]


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("select id, at, Label from t", ()),
        ("select id, at, Label from t order by at", (("at", ""),)),
        ("select id, at, Label from t order by label DESC, `id`", (("Label", "desc"), ("id", ""))),
        ("select id, at, Label from t order by 2 desc nulls last", (("at", "desc nulls last"),)),
        ("select * from (select * from t order by at)", ()),
        ("select id, at, max(x) over (order by at) as Label from t", ()),
        ("with a as (select 1 from t order by x) select * from a order by id", (("id", ""),)),
        ("select * from t union all select * from u order by at limit 3", (("at", ""),)),
    ],
)
def test_columns_and_positions_leave_the_text_as_it_is(query, order):
    assert with_order(query, NAMES) == (query, order)


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        (
            "select id, at from t order by hour",
            "select id, at, hour as spine_order_1 from t order by hour",
        ),
        (
            "select id, at, from t -- all of it\norder by at, abs(x - 1) desc limit 9",
            (
                "select id, at, abs(x - 1) as spine_order_2 from t -- all of it\n"
                "order by at, abs(x - 1) desc limit 9"
            ),
        ),
        (
            "with a as (select 1 from t) select year(x from at) as id from a order by a.y",
            (
                "with a as (select 1 from t) select year(x from at) as id, a.y as spine_order_1 "
                "from a order by a.y"
            ),
        ),
    ],
)
def test_anything_else_becomes_a_column(query, changed):
    text, order = with_order(query, NAMES)
    assert text == changed
    assert order[-1][0].startswith("spine_order_")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select distinct id from t order by id + 1", "of a `distinct` or a union"),
        ("select id from t union all select id from u order by id + 1", "of a `distinct`"),
        ("select -x as id from t order by abs(id)", "made of a name given in it"),
        ("select 'id from t", "the spine's SQL"),
        ("select id from t order by 4", "position 4"),
    ],
)
def test_what_cannot_become_a_column_is_refused(query, message):
    with pytest.raises(RunnerError, match=message):
        with_order(query, NAMES)
