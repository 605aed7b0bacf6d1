"""Expressions of one row: a Python function generated from checked nodes, 0.2 µs an operation.

Nothing that a recipe or a bundle says is in the function's source: columns become positions,
literals become `c1`, `c2`, …, and operations come from the tables below. A tree of closures would
take five times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from contract.computed import ComputedColumn
from contract.expressions import Kind, Node
from contract.time_rules import calendar_part, days_between
from contract.values import FLOAT32_MAX, FeatureValue

FillRow: TypeAlias = Callable[[list[FeatureValue]], None]
"""Writes the computed values of a row into it."""


def row_function(
    computed: Sequence[ComputedColumn], places: Mapping[str, tuple[int, Kind]]
) -> FillRow:
    """Return the function that fills the computed columns of a row in.

    Parameters
    ----------
    computed
        Their expressions are checked.
    places
        Column, computed or not → its position in a row and what it is.
    """
    writer = _Writer(places)
    for column in computed:
        value = writer.value(column.expression)
        writer.write(f"row[{places[column.name][0]}] = {value}")
        writer.remember(column.name, value)
    source = "\n    ".join(["def fill(row):", *(writer.lines or ["pass"])])
    namespace: dict[str, Any] = {"__builtins__": {}, **_HELPERS, **writer.constants}
    exec(source, namespace)  # noqa: S102 - made of the templates in this file, see above
    fill: FillRow = namespace["fill"]
    return fill


class _Writer:
    """Writes the lines that compute nodes, each into a variable of its own.

    All branches of a `case` are computed: none has an effect, and none can fail.
    """

    def __init__(self, places: Mapping[str, tuple[int, Kind]]) -> None:
        self._places = places
        self._columns: dict[str, str] = {}
        self._variables = 0
        self.constants: dict[str, object] = {}
        self.lines: list[str] = []

    def write(self, *lines: str) -> None:
        self.lines += lines

    def remember(self, column: str, variable: str) -> None:
        """Use the variable wherever the column is used."""
        self._columns[column] = variable

    def value(self, node: Node) -> str:
        """Return the variable or constant that holds the node's value."""
        match node:
            case ["column", str(name)]:
                if name not in self._columns:
                    self._columns[name] = self._column(*self._places[name])
                return self._columns[name]
            case ["literal", bool() | str() as value]:
                return self._constant(value)
            case ["literal", float() | int() as number]:
                return self._constant(float(number))
            case ["null", _]:
                return "None"
            case ["calendar", str(part), str(zone), list(argument)]:
                read = self._constant(calendar_part(part, zone))
                return self._unless_null(f"{read}({{0}})", [self.value(argument)])
        arguments = [self.value(each) for each in node[1:] if isinstance(each, list)]
        return self._operation(str(node[0]), arguments)

    def _operation(self, operation: str, arguments: list[str]) -> str:
        if operation in _PLAIN:
            return self._unless_null(_PLAIN[operation], arguments)
        if operation in _RISKY:
            return self._risky(_RISKY[operation], arguments)
        result = self._variable()
        self.write(*_STATEMENTS[operation](result, arguments))
        return result

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def _constant(self, value: object) -> str:
        name = f"c{len(self.constants) + 1}"
        self.constants[name] = value
        return name

    def _column(self, position: int, kind: Kind) -> str:
        variable = self._variable()
        self.write(f"{variable} = row[{position}]")
        if kind == "number":
            # A whole number becomes float64 first: Python divides exact ones more exactly.
            self.write(f"if {variable} is not None:")
            self.write(f"    {variable} = float({variable})")
            self.write(f"    if {variable} != {variable}: {variable} = None")
        return variable

    def _unless_null(self, template: str, arguments: list[str]) -> str:
        result = self._variable()
        null = " or ".join(f"{each} is None" for each in arguments)
        self.write(f"{result} = None if {null} else {template.format(*arguments)}")
        return result

    def _risky(self, template: str, arguments: list[str]) -> str:
        """Write an operation whose result may be no number that a model can take."""
        result = self._variable()
        self.write(
            f"{result} = None",
            f"if {' and '.join(f'{each} is not None' for each in arguments)}:",
            "    try:",
            f"        {result} = {template.format(*arguments)}",
            f"        if not least <= {result} <= most: {result} = None",
            "    except errors:",
            "        pass",
        )
        return result


def _extreme(name: str) -> Callable[[str, list[str]], Iterator[str]]:
    def lines(result: str, arguments: list[str]) -> Iterator[str]:
        yield f"{result} = ({', '.join(arguments)},)"
        yield f"{result} = None if None in {result} else {name}({result})"

    return lines


def _junction(decisive: bool) -> Callable[[str, list[str]], Iterator[str]]:
    def lines(result: str, arguments: list[str]) -> Iterator[str]:
        decided = " or ".join(f"{each} is {decisive}" for each in arguments)
        unknown = " or ".join(f"{each} is None" for each in arguments)
        yield f"{result} = {decisive} if {decided} else None if {unknown} else {not decisive}"

    return lines


def _in(result: str, arguments: list[str]) -> Iterator[str]:
    value, *choices = arguments
    yield f"{result} = ({', '.join(choices)},)"
    unknown = f"None if None in {result} else False"
    yield f"{result} = None if {value} is None else True if {value} in {result} else {unknown}"


def _coalesce(result: str, arguments: list[str]) -> Iterator[str]:
    *others, last = arguments
    yield f"{result} = " + "".join(f"{e} if {e} is not None else " for e in others) + last


def _case(result: str, arguments: list[str]) -> Iterator[str]:
    branches = zip(arguments[:-1:2], arguments[1::2], strict=True)
    chosen = "".join(f"{value} if {condition} else " for condition, value in branches)
    yield f"{result} = {chosen}{arguments[-1]}"


_PLAIN: Mapping[str, str] = {
    "negate": "-{0}",
    "abs": "abs({0})",
    "floor": "float(floor({0}))",
    "ceil": "float(ceil({0}))",
    "less": "{0} < {1}",
    "less_or_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "unequal": "{0} != {1}",
    "not": "not {0}",
    "as_number": "float({0})",
    "days_between": "days_between({0}, {1})",
}
"""Operations that give a value wherever no argument is null."""
_RISKY: Mapping[str, str] = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "remainder": "fmod({0}, {1})",
    "power": "pow({0}, {1})",
    "sqrt": "sqrt({0})",
    "ln": "ln({0})",
    "exp": "exp({0})",
}
"""Operations on numbers whose result may be too large, or none."""
_STATEMENTS: Mapping[str, Callable[[str, list[str]], Iterator[str]]] = {
    "least": _extreme("min"),
    "greatest": _extreme("max"),
    "in": _in,
    "and": _junction(False),
    "or": _junction(True),
    "is_null": lambda result, arguments: iter([f"{result} = {arguments[0]} is None"]),
    "coalesce": _coalesce,
    "null_if": lambda result, arguments: iter(
        [f"{result} = None if {arguments[0]} == {arguments[1]} else {arguments[0]}"]
    ),
    "case": _case,
}
_HELPERS: Mapping[str, object] = {
    "abs": abs,
    "float": float,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "fmod": math.fmod,
    "pow": math.pow,
    "sqrt": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "days_between": days_between,
    "least": -FLOAT32_MAX,
    "most": FLOAT32_MAX,
    "errors": (ArithmeticError, ValueError),
}
