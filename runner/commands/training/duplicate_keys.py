"""Training is refused on a feature mart with rows of equal join keys and event timestamps."""

from __future__ import annotations

from collections.abc import Sequence

from runner import console
from runner.bytes_billed import Billed
from runner.errors import CombinedError, RunnerError
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.warehouse.open_mart import find_duplicates


def refuse_duplicates(settings: Settings, marts: Sequence[FeatureMart]) -> dict[str, Billed]:
    """Return what looking for duplicate rows was billed, by step; on PostgreSQL nothing is.

    A mart with a created timestamp column may have versions of a row. Those that were written at
    one time are only warned of.

    Raises
    ------
    RunnerError
        If two rows of a mart have equal join keys and event timestamps, and it has no such column.
    """
    billed: dict[str, Billed] = {}
    errors: list[RunnerError] = []
    for mart in marts:
        found = find_duplicates(settings, mart)
        if found.billed is not None:
            billed[f"duplicates.{mart.name}"] = found.billed
        if found.rows and mart.created_timestamp_column:
            console.warn(f"{found.problem(mart)}; the greatest values count")
        elif found.rows:
            errors.append(RunnerError(found.problem(mart), hint=found.hint(mart)))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CombinedError(errors, hint=errors[0].hint)
    return billed
