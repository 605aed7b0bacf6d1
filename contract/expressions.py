"""Expressions over one row as plain data, and the types that they must have.

A node is a list of an operation's name and its arguments, such as
`["divide", ["column", "basket_value_usd"], ["column", "user_activity__order_value_mean_30d_usd"]]`.
The runner makes them out of a recipe's SQL; a serving bundle holds them as JSON.

What they mean is the same on every warehouse, for training, batch and serving:

- Numbers are float64, whole numbers too: 7 / 2 is 3.5, and beyond 2^53 they are rounded.
- NaN is null. A number beyond ±3.4e38, the most that a model can take, is null at the step that
  gives it. So is a division by 0, the logarithm of 0, and the square root of -1.
- Null propagates, in `least` and `greatest` too. Flags have SQL's three values: false and null is
  false, true or null is true. `case` takes a branch only if its condition is true.
- A remainder has the dividend's sign. Instants are cut to their whole second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from contract.time_rules import PARTS, UnknownZoneError, load_zone
from contract.values import FLOAT32_MAX, beyond_float32

Kind = Literal["number", "text", "flag", "time"]
Node: TypeAlias = "list[str | float | bool | Node]"

KINDS: Mapping[str, Kind] = {
    "int64": "number",
    "int32": "number",
    "float64": "number",
    "float32": "number",
    "bool": "flag",
    "string": "text",
    "timestamp": "time",
}
"""What a column of each dtype is in an expression."""
Result = Literal["float64", "bool", "string"]
DTYPES: Mapping[Kind, Result] = {"number": "float64", "flag": "bool", "text": "string"}
"""The dtype of an expression that gives each kind; none gives a time."""
ASKED_AT = "event_timestamp"
"""The column of the instant that a row is asked for: of a spine, of a batch, or now."""
MAX_DEPTH = 100
"""Deeper trees are refused: evaluating one recurses."""


class ExpressionError(ValueError):
    """What is wrong with an operation and its arguments."""


def result_kind(operation: str, kinds: Sequence[Kind]) -> Kind:
    """Return what an operation on arguments of these kinds gives.

    Raises
    ------
    ExpressionError
        If there is no such operation, or it takes no such arguments.
    """
    if operation not in _RULES:
        raise ExpressionError(f"there is no operation {operation!r}")
    return _RULES[operation](kinds)


def kind_of(node: object, columns: Mapping[str, Kind], depth: int = 0) -> Kind:
    """Return what a node gives, every node below it checked.

    Parameters
    ----------
    columns
        The kind of every column that it may use.

    Raises
    ------
    ExpressionError
        Naming what is wrong.
    """
    if depth > MAX_DEPTH:
        raise ExpressionError(f"nested more than {MAX_DEPTH} deep")
    match node:
        case ["column", str(name)]:
            if name not in columns:
                raise ExpressionError(f"there is no column {name!r}")
            return columns[name]
        case ["literal", bool() | str() | float() | int() as value]:
            return literal_kind(value)
        case ["null", ("number" | "flag" | "text") as kind]:
            return _NULLS[kind]
        case ["calendar", str(part), str(zone), argument]:
            _require_calendar(part, zone)
            return result_kind("calendar", [kind_of(argument, columns, depth + 1)])
        case [str(operation), *arguments]:
            return result_kind(operation, [kind_of(each, columns, depth + 1) for each in arguments])
        case _:
            raise ExpressionError(f"{node!r:.60} is no expression")


def literal_kind(value: float | str) -> Kind:
    """Return the kind of a literal.

    Raises
    ------
    ExpressionError
        If it is a number that no model can take.
    """
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "flag"
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:
        raise ExpressionError(beyond_float32(value))
    return "number"


def columns_in(node: Node) -> Iterator[str]:
    """Yield the columns that a checked node uses."""
    if node[0] == "column":
        yield str(node[1])
    for argument in node[1:]:
        if isinstance(argument, list):
            yield from columns_in(argument)


def _require_calendar(part: str, zone: str) -> None:
    if part not in PARTS:
        raise ExpressionError(f"there is no part {part!r} of a time")
    try:
        load_zone(zone)
    except UnknownZoneError as err:
        raise ExpressionError(str(err)) from err


_Rule = Callable[[Sequence[Kind]], Kind]
_NULLS: Mapping[str, Kind] = {"number": "number", "flag": "flag", "text": "text"}
_PLURALS: Mapping[Kind, str] = {
    "number": "numbers",
    "flag": "flags",
    "text": "texts",
    "time": "times",
}
_COUNTS = {1: "one", 2: "two"}


def _all(kind: Kind, count: int | None = None, *, gives: Kind | None = None) -> _Rule:
    """Return the rule of an operation on so many arguments of a kind; None: any number from 1."""

    def rule(kinds: Sequence[Kind]) -> Kind:
        _require_count(kinds, count)
        other = next((each for each in kinds if each != kind), None)
        if other is not None:
            raise ExpressionError(f"takes {_PLURALS[kind]}, not {_PLURALS[other]}")
        return gives or kind

    return rule


def _alike(count: int | None = None, *, gives: Kind | None = None) -> _Rule:
    """Return the rule of an operation on numbers, flags or texts, all of one kind."""

    def rule(kinds: Sequence[Kind]) -> Kind:
        _require_count(kinds, count)
        common = _common(kinds)
        return gives or common

    return rule


def _common(kinds: Sequence[Kind]) -> Kind:
    first = kinds[0]
    for kind in kinds:
        if kind == "time":
            raise ExpressionError("takes no times: use the days since then")
        if kind != first:
            raise ExpressionError(f"takes values of one kind, not {first} and {kind}")
    return first


def _case(kinds: Sequence[Kind]) -> Kind:
    """Check condition, value, condition, value, …, and the value where none is true."""
    if len(kinds) < 3 or len(kinds) % 2 == 0:
        raise ExpressionError("takes conditions with values, and one value more")
    _all("flag")(kinds[:-1:2])
    return _common([*kinds[1::2], kinds[-1]])


def _require_count(kinds: Sequence[Kind], count: int | None) -> None:
    if not kinds if count is None else len(kinds) != count:
        expected = "one or more" if count is None else _COUNTS[count]
        raise ExpressionError(f"takes {expected} arguments, not {len(kinds)}")


def _one_of_any(kinds: Sequence[Kind]) -> Kind:
    _require_count(kinds, 1)
    return "flag"


def _as_number(kinds: Sequence[Kind]) -> Kind:
    _require_count(kinds, 1)
    if kinds[0] not in {"number", "flag"}:
        raise ExpressionError(f"takes a number or a flag, not {kinds[0]}")
    return "number"


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "remainder"), _all("number", 2)),
    **dict.fromkeys(("negate", "abs", "floor", "ceil", "sqrt", "ln", "exp"), _all("number", 1)),
    "power": _all("number", 2),
    **dict.fromkeys(("least", "greatest"), _all("number")),
    **dict.fromkeys(("less", "less_or_equal"), _all("number", 2, gives="flag")),
    **dict.fromkeys(("equal", "unequal"), _alike(2, gives="flag")),
    "in": _alike(gives="flag"),
    **dict.fromkeys(("and", "or"), _all("flag")),
    "not": _all("flag", 1),
    "is_null": _one_of_any,
    "coalesce": _alike(),
    "null_if": _alike(2),
    "case": _case,
    "as_number": _as_number,
    "days_between": _all("time", 2, gives="number"),
    "calendar": _all("time", 1, gives="number"),
}
