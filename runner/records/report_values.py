"""How a report writes numbers and texts, and which columns it keeps to itself."""

from __future__ import annotations

from contract.expressions import columns_in
from runner.modelling.bootstrap import Interval
from runner.records.run_record import Training

PERSONAL = "personal data: not shown"
_TEXT_LENGTH = 200


def personal_columns(training: Training) -> frozenset[str]:
    """Return what is personal data, by every name that a report may call it.

    Computed columns of personal data are personal too.
    """
    prepared = training.prepared
    found = {column.name for column in prepared.spine.columns.values() if column.pii}
    for feature in prepared.features:
        if feature.mart.columns[feature.name].pii:
            found |= {feature.reference, feature.column}
    for column in prepared.computed:
        if found & set(columns_in(column.expression)):
            found.add(column.name)
    return frozenset(found)


def number(value: float) -> str:
    """Return a score as every table shows it."""
    return f"{value:,.4f}"


def ends(found: Interval | None) -> str:
    """Return the two ends of an interval; empty if there is none."""
    return f"{number(found.low)} to {number(found.high)}" if found else ""


def cut(text: str) -> str:
    """Return the text, or the beginning of a long one."""
    return text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 1]}…"
