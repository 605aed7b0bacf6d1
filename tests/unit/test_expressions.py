"""Derived values mean the same for one row, for a column, and to an evaluator of their SQL."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from contract.computation import Computation
from contract.computed import ComputedColumn, computed_problems
from contract.expressions import DTYPES, KINDS, MAX_DEPTH
from runner.recipes.expression_sql import RefusedSqlError, translated

COLUMNS = {"a": "int64", "b": "float64", "c": "float64", "t": "string", "f": "bool"}
ARROW = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string(), "bool": pa.bool_()}
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LIMIT = 3.4028234663852886e38


def resolve(name):
    if name not in COLUMNS:
        raise RefusedSqlError(f"no column {name}")
    return name, KINDS[COLUMNS[name]]


def computation(sql):
    node, kind = translated(sql, resolve)
    column = ComputedColumn("x", DTYPES[kind], node, sql)
    assert computed_problems([column], COLUMNS) == []
    return Computation([column], COLUMNS)


def used(sql):
    return any(sqlglot.parse_one(sql, dialect="postgres").find_all(exp.Column))


def of_row(sql, **values):
    row = [values.get(name) for name in COLUMNS]
    return computation(sql).row(row, NOW)[-1]


# --- an evaluator of its own: SQL in, nothing shared with the code


def plain(sql, row):
    return _value(sqlglot.parse_one(sql, dialect="postgres"), row)


def _value(node, row):  # noqa: C901 - one case each
    match node:
        case exp.Paren():
            return _value(node.this, row)
        case exp.Column():
            value = row[node.name]
            if isinstance(value, float) and math.isnan(value):
                return None
            return float(value) if COLUMNS[node.name] == "int64" and value is not None else value
        case exp.Literal():
            return node.this if node.is_string else float(node.this)
        case exp.Boolean():
            return node.this
        case exp.Null():
            return None
        case exp.Case():
            for branch in node.args["ifs"]:
                if _value(branch.this, row) is True:
                    return _value(branch.args["true"], row)
            return _value(node.args["default"], row) if node.args.get("default") else None
        case exp.Coalesce():
            values = [_value(each, row) for each in (node.this, *node.expressions)]
            return next((value for value in values if value is not None), None)
        case exp.Is():
            return (_value(node.this, row) is None) != bool(node.args.get("negate"))
        case exp.And() | exp.Or():
            values = [_value(node.this, row), _value(node.expression, row)]
            return _joined(values, decisive=isinstance(node, exp.Or))
        case exp.Between():
            value, low, high = (_value(node.args[name], row) for name in ("this", "low", "high"))
            ends = [
                None if None in (value, low) else low <= value,
                None if None in (value, high) else value <= high,
            ]
            return _joined(ends, decisive=False)
        case exp.In():
            value = _value(node.this, row)
            others = [_value(each, row) for each in node.expressions]
            found = [None if None in (value, other) else value == other for other in others]
            return True if True in found else None if None in found else False
        case exp.Nullif():
            value, other = _value(node.this, row), _value(node.expression, row)
            return None if value == other else value
        case _:
            parts = [node.args.get("this"), node.args.get("expression"), *node.expressions]
            values = [_value(part, row) for part in parts if isinstance(part, exp.Expression)]
            return None if None in values else _known(node, values)


def _joined(values, *, decisive):
    return decisive if decisive in values else None if None in values else not decisive


def _known(node, values):
    try:
        result = _CALLS[type(node)](*values)
    except (ArithmeticError, ValueError):
        return None
    if isinstance(result, bool | str):
        return result
    return float(result) if abs(result) <= LIMIT else None


_CALLS = {
    exp.Add: lambda x, y: x + y,
    exp.Sub: lambda x, y: x - y,
    exp.Mul: lambda x, y: x * y,
    exp.Div: lambda x, y: x / y,
    exp.Mod: lambda x, y: math.fmod(x, y),
    exp.Neg: lambda x: -x,
    exp.Abs: abs,
    exp.Floor: math.floor,
    exp.Ceil: math.ceil,
    exp.Sqrt: math.sqrt,
    exp.Ln: math.log,
    exp.Exp: math.exp,
    exp.Pow: math.pow,
    exp.Least: min,
    exp.Greatest: max,
    exp.LT: lambda x, y: x < y,
    exp.LTE: lambda x, y: x <= y,
    exp.GT: lambda x, y: x > y,
    exp.GTE: lambda x, y: x >= y,
    exp.EQ: lambda x, y: x == y,
    exp.NEQ: lambda x, y: x != y,
    exp.Not: lambda x: not x,
    exp.Cast: lambda x, *_: float(x),
}

NUMBERS = st.sampled_from(["a", "b", "c", "0", "1", "2.5", "7e37", "-0.5", "9007199254740993"])
TEXTS = st.sampled_from(["t", "'x'", "''", "'it''s'", "coalesce(t, 'x')", "nullif(t, 'x')"])
NUMERIC = (
    *("({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / {1})", "({0} % {1})", "-({0})"),
    *("abs({0})", "floor({0})", "ceil({0})", "sqrt({0})", "ln({0})", "exp({0})"),
    *("power({0}, {1})", "least({0}, {1})", "greatest({0}, {1})"),
    *("coalesce({0}, {1})", "nullif({0}, {1})"),
    *("case when {f} then {0} else {1} end", "case when {t} = 'x' then {0} end"),
    "cast({f} as double)",
)
FLAGS = (
    *("({0} < {1})", "({0} <= {1})", "({0} > {1})", "({0} >= {1})", "({0} = {1})", "({0} <> {1})"),
    *("({0} between {1} and {2})", "({0} in ({1}, {2}))", "({t} in ({t}, 'y'))"),
    *("f", "true", "({0} is null)", "({t} is not null)"),
    *("not {f}", "({f} and {f})", "({f} or {f})"),
)


@st.composite
def numbers(draw, depth=3):
    if not depth or draw(st.booleans()):
        return draw(NUMBERS)
    return filled(draw, draw(st.sampled_from(NUMERIC)), depth)


@st.composite
def flags(draw, depth=3):
    return filled(draw, draw(st.sampled_from(FLAGS)) if depth else "f", depth)


def filled(draw, template, depth):
    parts = [draw(numbers(depth - 1)) if f"{{{i}}}" in template else "" for i in range(3)]
    flag = draw(flags(depth - 1)) if "{f}" in template else ""
    return template.format(*parts, f=flag, t=draw(TEXTS) if "{t}" in template else "")


FLOATS = st.one_of(
    st.none(),
    st.just(math.nan),
    st.sampled_from([0.0, -0.0, 1.0, LIMIT, -LIMIT, 5e-324]),
    st.floats(-LIMIT, LIMIT),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3)),
            "b": FLOATS,
            "c": FLOATS,
            "t": st.sampled_from([None, "", "x", "y", "it's"]),
            "f": st.sampled_from([None, True, False]),
        }
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(sql=st.one_of(numbers(), flags(), TEXTS), rows=ROWS)
@example(sql="a / nullif(b, 0)", rows=[{"a": 2**53 + 1, "b": 0.0, "c": None, "t": None, "f": None}])
@example(sql="exp(b)", rows=[{"a": 1, "b": 88.5, "c": None, "t": None, "f": None}] * 3)
def test_a_row_a_column_and_plain_sql_agree_to_the_last_bit(sql, rows):
    assume(used(sql))
    computed = computation(sql)
    # The online store gives NaN as null.
    clean = [{k: None if v != v else v for k, v in row.items()} for row in rows]
    by_row = [computed.row([row[name] for name in COLUMNS], NOW)[-1] for row in clean]
    table = pa.table(
        {
            name: pa.array([row[name] for row in rows], ARROW[dtype])
            for name, dtype in COLUMNS.items()
        }
    ).append_column("event_timestamp", pa.array([NOW] * len(rows)))
    vector = computed.columns({name: table[name] for name in table.column_names})["x"].tolist()
    by_column = [None if value != value else value for value in vector]
    assert by_row == by_column == [plain(sql, row) for row in rows]


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("a / 2", {"a": 7}, 3.5),
        ("a / 0", {"a": 7}, None),
        ("a + 1", {"a": 2**63 - 1}, 2.0**63),
        ("a % 3", {"a": -7}, -1.0),
        ("b * b", {"b": 1e30}, None),
        ("1 / (b * b)", {"b": 1e30}, None),
        ("exp(b)", {"b": 1e5}, None),
        ("ln(b)", {"b": 0.0}, None),
        ("sqrt(b)", {"b": -1.0}, None),
        ("power(b, 0.5)", {"b": -8.0}, None),
        ("least(a, b)", {"a": 1}, None),
        ("f and a > 0", {"f": False}, False),
        ("f or a > 0", {"f": True}, True),
        ("case when f then 1 else 2 end", {}, 2.0),
        ("case t when 'x' then 'y' end", {"t": "x"}, "y"),
        ("case t when 'x' then 'y' end", {"t": "z"}, None),
        ("t in ('x', 'y')", {"t": "x"}, True),
        ("t not in ('x', nullif(t, t))", {"t": "z"}, None),
        ("t = ''", {"t": ""}, True),
        ("cast(f as double) + 1", {"f": True}, 2.0),
        ("a = 9007199254740993", {"a": 2**53}, True),
    ],
)
def test_semantics_that_the_docs_promise(sql, values, expected):
    assert of_row(sql, **values) == expected


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("count(*)", "'COUNT(*)' is not allowed"),
        ("a; drop table x", "is not one SQL expression"),
        ("select a", "is not allowed"),
        ("a in (select 1)", "is not allowed"),
        ("a::int", "the only cast is to double"),
        ("a = null", "null for an operand"),
        ("a + t", "takes numbers, not texts"),
        ("f + 1", "takes numbers, not flags"),
        ("case when f then 1 else 'x' end", "values of one kind, not number and text"),
        ("case when f then null end", "always null"),
        ("1 + 1", "uses no column"),
        ("a +", "is no SQL expression"),
        ("a + 1e39", "is not between"),
        ("floor(a, 2)", "is not allowed"),
        ("round(a)", "is not allowed"),
        ("lower(t)", "is not allowed"),
        ("now()", "is not allowed"),
        ("x.y.a", "is not allowed"),
        ("", "is not one SQL expression"),
        ("(" * 900 + "a" + ")" * 900, "nested too deep"),
        ("+".join(["a"] * 300), "nested too deep"),
        ("a + " * 600 + "a", "longer than 2,000 characters"),
    ],
)
def test_what_is_not_allowed_is_refused(sql, said):
    with pytest.raises(RefusedSqlError) as refused:
        translated(sql, resolve)
    assert said in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("expression", "dtype", "said"),
    [
        (["eval", ["literal", "x"]], "float64", "no operation 'eval'"),
        (["add", ["column", "a"]], "float64", "two arguments"),
        (["column", "__import__"], "float64", "no column"),
        (["literal", 1e39], "float64", "is not between"),
        (["literal", None], "float64", "is no expression"),
        ([["column", "a"]], "float64", "is no expression"),
        (["column", "a"], "bool", "is number, not bool"),
        (["column", "event_timestamp"], "float64", "is time, not float64"),
        (["calendar", "hour", "../zones", ["column", "event_timestamp"]], "float64", "time zone"),
        (["calendar", "era", "UTC", ["column", "event_timestamp"]], "float64", "no part 'era'"),
    ],
)
def test_a_bundle_with_an_unsound_expression_is_refused(expression, dtype, said):
    [problem] = computed_problems([ComputedColumn("x", dtype, expression)], COLUMNS)
    assert said in problem


def test_a_tree_that_is_too_deep_for_a_row_is_refused():
    node = ["column", "a"]
    for _ in range(MAX_DEPTH + 1):
        node = ["negate", node]
    [problem] = computed_problems([ComputedColumn("x", "float64", node)], COLUMNS)
    assert "nested" in problem


def test_a_literal_never_becomes_code():
    sql = """case when t = '"""  # quotes, newlines and braces stay a text
    evil = "');import os;(' {0}\n"
    assert of_row(f"{sql}{evil.replace(chr(39), chr(39) * 2)}' then 1 else 0 end", t=evil) == 1.0


def test_a_computed_column_uses_those_before_it():
    first = ComputedColumn("x", "float64", ["add", ["column", "a"], ["literal", 1]])
    second = ComputedColumn("y", "bool", ["less", ["column", "x"], ["literal", 3]])
    both = Computation([first, second], COLUMNS)
    assert both.row([1, None, None, None, None], NOW)[-2:] == [2.0, True]
    assert computed_problems([second, first], COLUMNS) == ["computed.y: there is no column 'x'"]
