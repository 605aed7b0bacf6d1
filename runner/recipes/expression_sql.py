"""A derived value's SQL as the plain data of `contract.expressions`.

sqlglot parses it. What is not in the tables below is refused, so that nothing means something else
here than where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from contract.expressions import (
    ExpressionError,
    Kind,
    Node,
    columns_in,
    kind_of,
    literal_kind,
    result_kind,
)
from runner.wording import show

ALLOWED = (
    "allowed are columns, numbers, 'text', true, false, + - * / %, = <> < <= > >=, and, or, not, "
    "in (…), between, is [not] null, case, coalesce, nullif, abs, floor, ceil, sqrt, ln, exp, "
    "power, least, greatest and cast(… as double)"
)
MAX_LENGTH = 2_000
_IN_THE_MART = "compute it in the feature mart's SQL"

Resolve: TypeAlias = Callable[[str], tuple[str, Kind]]
"""Gives a column's full name and kind by the name that the SQL has for it."""
_Typed: TypeAlias = tuple[Node, Kind | None]
"""A node and what it gives; None: the literal null, which has no kind of its own."""


class RefusedSqlError(Exception):
    """SQL that is no derived value; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = ALLOWED) -> None:
        super().__init__(message)
        self.hint = hint


def translated(sql: str, resolve: Resolve) -> tuple[Node, Kind]:
    """Return the SQL as a node, and what it gives: a number, a flag or a text.

    Raises
    ------
    RefusedSqlError
        If it is no expression of the closed subset, or its types do not fit. `resolve` may raise
        it too, for a column that is not there.
    """
    if len(sql) > MAX_LENGTH:
        raise RefusedSqlError(f"longer than {MAX_LENGTH:,} characters", _IN_THE_MART)
    translation = _Translation(resolve)
    try:
        node, kind = translation.typed(_parsed(sql))
        if kind is None:
            raise RefusedSqlError(f"{show(sql)} is always null", "write an expression")
        if kind == "time":
            raise RefusedSqlError(f"{show(sql)} is a time", "a derived value is no time")
        if next(columns_in(node), None) is None:
            raise RefusedSqlError(f"{show(sql)} uses no column", "use one, or delete it")
        kind_of(node, translation.used)  # for its depth
    except (RecursionError, ExpressionError) as err:
        raise RefusedSqlError("nested too deep", _IN_THE_MART) from err
    return node, kind


def _parsed(sql: str) -> exp.Expression:
    try:
        statements = sqlglot.parse(sql, dialect="postgres")
    except SqlglotError as err:
        raise RefusedSqlError(f"{show(sql)} is no SQL expression") from err
    if len(statements) != 1 or not isinstance(statements[0], exp.Expression):
        raise RefusedSqlError(f"{show(sql)} is not one SQL expression")
    return statements[0]


_OPERATIONS: Mapping[type[exp.Expression], str] = {
    exp.Add: "add",
    exp.Sub: "subtract",
    exp.Mul: "multiply",
    exp.Div: "divide",
    exp.Mod: "remainder",
    exp.Pow: "power",
    exp.Abs: "abs",
    exp.Floor: "floor",
    exp.Ceil: "ceil",
    exp.Sqrt: "sqrt",
    exp.Ln: "ln",
    exp.Exp: "exp",
    exp.Least: "least",
    exp.Greatest: "greatest",
    exp.LT: "less",
    exp.LTE: "less_or_equal",
    exp.EQ: "equal",
    exp.NEQ: "unequal",
    exp.And: "and",
    exp.Or: "or",
    exp.Not: "not",
    exp.In: "in",
    exp.Nullif: "null_if",
}
"""What sqlglot calls each operation; its arguments are `this`, `expression` and `expressions`."""
_ARGUMENTS = ("this", "expression", "expressions")
# Notes of sqlglot's on how dialects differ; our semantics are one.
_NOTES = {"typed", "safe", "ignore_nulls", "is_nvl", "is_null"}


class _Translation:
    """Translates the nodes of sqlglot, innermost first.

    Attributes
    ----------
    used
        The columns met, by full name, and their kinds.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self.used: dict[str, Kind] = {}

    def typed(self, sql: exp.Expression) -> _Typed:
        if operation := _OPERATIONS.get(type(sql)):
            return self._operation(operation, sql)
        translate = _SPECIAL.get(type(sql))
        if translate is None:
            raise RefusedSqlError(f"{_text(sql)} is not allowed")
        return translate(self, sql)

    def _operation(self, operation: str, sql: exp.Expression) -> _Typed:
        _require_only(sql, *_ARGUMENTS)
        arguments = [sql.args.get("this"), sql.args.get("expression"), *sql.expressions]
        nodes = [self.typed(each) for each in arguments if each is not None]
        return self.applied(operation, nodes, sql)

    def applied(self, operation: str, nodes: Sequence[_Typed], sql: exp.Expression) -> _Typed:
        """Return an operation on nodes, its types checked."""
        kinds = [kind for _, kind in nodes if kind is not None]
        if len(kinds) < len(nodes):
            hint = "write `is null`; null itself is a value of case and coalesce only"
            raise RefusedSqlError(f"{_text(sql)} has null for an operand", hint)
        try:
            kind = result_kind(operation, kinds)
        except ExpressionError as err:
            hint = "a text is compared only; a flag becomes a number by cast(… as double)"
            raise RefusedSqlError(f"{_text(sql)} {err}", hint) from err
        return [operation, *(node for node, _ in nodes)], kind

    def column(self, sql: exp.Expression) -> _Typed:
        _require_only(sql, "this", "table")
        name = ".".join(part.name for part in (sql.args.get("table"), sql.this) if part)
        full_name, kind = self._resolve(name)
        self.used[full_name] = kind
        return ["column", full_name], kind

    def literal(self, sql: exp.Expression) -> _Typed:
        value: str | float = sql.name if sql.is_string else float(sql.name)
        return self.constant(value, sql)

    def constant(self, value: str | float, sql: exp.Expression) -> _Typed:
        try:
            return ["literal", value], literal_kind(value)
        except ExpressionError as err:
            raise RefusedSqlError(f"{_text(sql)}: {err}", "write a smaller number") from err

    def flag(self, sql: exp.Expression) -> _Typed:
        return self.constant(bool(sql.this), sql)

    def negated(self, sql: exp.Expression) -> _Typed:
        node, kind = self.typed(sql.this)
        if node[0] == "literal" and kind == "number":
            return ["literal", -float(str(node[1]))], kind
        return self.applied("negate", [(node, kind)], sql)

    def swapped(self, sql: exp.Expression) -> _Typed:
        operation = "less" if isinstance(sql, exp.GT) else "less_or_equal"
        return self.applied(operation, [self.typed(sql.expression), self.typed(sql.this)], sql)

    def inner(self, sql: exp.Expression) -> _Typed:
        return self.typed(sql.this)

    def null(self, sql: exp.Expression) -> _Typed:
        return ["null", sql.name], None

    def is_null(self, sql: exp.Expression) -> _Typed:
        _require_only(sql, "this", "expression", "negate")
        if not isinstance(sql.expression, exp.Null):
            raise RefusedSqlError(f"{_text(sql)} is not allowed")
        found = self.applied("is_null", [self.typed(sql.this)], sql)
        return self.applied("not", [found], sql) if sql.args.get("negate") else found

    def between(self, sql: exp.Expression) -> _Typed:
        _require_only(sql, "this", "low", "high")
        value, low, high = (self.typed(sql.args[name]) for name in ("this", "low", "high"))
        from_low = self.applied("less_or_equal", [low, value], sql)
        return self.applied(
            "and", [from_low, self.applied("less_or_equal", [value, high], sql)], sql
        )

    def cast(self, sql: exp.Expression) -> _Typed:
        _require_only(sql, "this", "to")
        if sql.args["to"].sql(dialect="postgres").lower() not in {"double precision", "float64"}:
            hint = "numbers are float64: write floor(…) or ceil(…) for a whole one"
            raise RefusedSqlError(f"{_text(sql)}: the only cast is to double", hint)
        return self.applied("as_number", [self.typed(sql.this)], sql)

    def coalesced(self, sql: exp.Expression) -> _Typed:
        _require_only(sql, *_ARGUMENTS)
        return self._alternatives("coalesce", [], [sql.this, *sql.expressions], sql)

    def case(self, sql: exp.Expression) -> _Typed:
        _require_only(sql, "this", "ifs", "default")
        subject = self.typed(sql.this) if sql.args.get("this") else None
        conditions = [self.typed(branch.this) for branch in sql.args["ifs"]]
        if subject:
            conditions = [self.applied("equal", [subject, each], sql) for each in conditions]
        values = [branch.args["true"] for branch in sql.args["ifs"]]
        values.append(sql.args.get("default") or exp.Null())
        return self._alternatives("case", conditions, values, sql)

    def _alternatives(
        self,
        operation: str,
        conditions: Sequence[_Typed],
        values: Sequence[exp.Expression],
        sql: exp.Expression,
    ) -> _Typed:
        """Return an operation that gives one of several values, which may be null."""
        nodes = [self.typed(value) for value in values]
        known = next((kind for _, kind in nodes if kind is not None), None)
        if known is None:
            raise RefusedSqlError(f"{_text(sql)} is always null", "give it a value")
        nodes = [node if node[1] else (["null", known], known) for node in nodes]
        pairs = [each for pair in zip(conditions, nodes, strict=False) for each in pair]
        return self.applied(operation, [*pairs, *nodes[len(conditions) :]], sql)


_SPECIAL: Mapping[type[exp.Expression], Callable[[_Translation, exp.Expression], _Typed]] = {
    exp.Paren: _Translation.inner,
    exp.Column: _Translation.column,
    exp.Literal: _Translation.literal,
    exp.Boolean: _Translation.flag,
    exp.Null: _Translation.null,
    exp.Neg: _Translation.negated,
    exp.GT: _Translation.swapped,
    exp.GTE: _Translation.swapped,
    exp.Is: _Translation.is_null,
    exp.Between: _Translation.between,
    exp.Cast: _Translation.cast,
    exp.Coalesce: _Translation.coalesced,
    exp.Case: _Translation.case,
}


def _require_only(sql: exp.Expression, *names: str) -> None:
    """Refuse what sqlglot has read beside these arguments, such as `in (select …)`."""
    if any(value for name, value in sql.args.items() if name not in {*names, *_NOTES}):
        raise RefusedSqlError(f"{_text(sql)} is not allowed")


def _text(sql: exp.Expression) -> str:
    return show(sql.sql(dialect="postgres", comments=False))
