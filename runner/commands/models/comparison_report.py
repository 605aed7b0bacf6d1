"""Two trained models side by side, as a table or as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from runner import console
from runner.commands.models.model_comparison import ComparedProperty

_DIGEST = re.compile("([0-9a-f]{12})[0-9a-f]{20,52}")


def show_comparison(rows: Sequence[ComparedProperty], a: str, b: str, *, as_json: bool) -> None:
    """Print every metric and all that differs; as JSON everything."""
    if as_json:
        console.result_json([{**asdict(row), "differs": row.differs} for row in rows])
        return
    cells, same = table(rows)
    console.result_table("", ["", "", "", a, b], cells)
    if same:
        console.result(same)
    console.result(verdict(rows))


def verdict(rows: Sequence[ComparedProperty]) -> str:
    """Return `identical`, or how much differs; two runs of one training have other ids."""
    compared = [row for row in rows if row.group != "run"]
    different = sum(row.differs for row in compared)
    return f"{different} of {len(compared)} properties differ" if different else "identical"


def table(rows: Sequence[ComparedProperty]) -> tuple[list[list[str]], str]:
    """Return the cells of every metric and of all that differs, and a line about the rest."""
    equal = Counter(row.group for row in rows if not row.differs and row.group != "metrics")
    counts = ", ".join(f"{group} {count}" for group, count in equal.items())
    cells = [
        [row.group, row.name, "≠" if row.differs else "", shown(row.a), shown(row.b)]
        for row in rows
        if row.differs or row.group == "metrics"
    ]
    return cells, f"the same in both: {counts}; --json has them" if counts else ""


def shown(value: object) -> str:
    """Return the value as the table has it: of digests and ids the first 12 digits."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return _DIGEST.sub(r"\1", str(value))
