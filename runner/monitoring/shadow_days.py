"""A version that answers as a shadow, and on which days it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from contract.bundle import Label
from runner.recipes.recipe import Recipe
from runner.warehouse.log_sql import LogReader


@dataclass(frozen=True)
class ShadowVersion:
    """A registered version, as its serving bundle describes it."""

    name: str
    version: str
    run_id: str
    recipe: Recipe
    label: Label
    created: datetime

    @classmethod
    def of(cls, version: str, served: Mapping[str, Any]) -> ShadowVersion:
        """Return the version with this `serving.json`."""
        label, classes = served["label"], served["label"].get("classes")
        return cls(
            served["registered_model_name"],
            version,
            served["run_id"],
            Recipe.model_validate(served["recipe"]),
            Label(label["name"], classes=None if classes is None else tuple(classes)),
            datetime.fromisoformat(served["created_at"]).astimezone(UTC),
        )


@dataclass(frozen=True)
class ShadowDays:
    """The days, in UTC, on which a version answered beside the champion.

    Attributes
    ----------
    days, rows
        How many days, and how many rows on them.
    last
        The last of them; None: there is none.
    """

    days: int
    rows: int
    last: date | None

    def due(self, needed: int, today: date) -> date:
        """Return the first day on which `needed` days can be reached."""
        begins = today + timedelta(days=1) if self.last == today else today
        return begins + timedelta(days=needed - self.days - 1)


def shadow_days(reader: LogReader, shadow: ShadowVersion) -> ShadowDays:
    """Return the days on which the version answered as a shadow."""
    sql = reader.sql
    day = sql.day("served_at")
    [[days, rows, last]] = reader.rows(
        f"select count(distinct {day}), count(*), max({day})\nfrom {sql.table}\n"
        f"where served_at >= {sql.instant(shadow.created.isoformat())} "
        f"and model_name = {sql.literal(shadow.name)} "
        f"and model_version = {sql.literal(shadow.version)} "
        f"and run_id = {sql.literal(shadow.run_id)} and answered_as = 'shadow'"
    )
    return ShadowDays(int(str(days)), int(str(rows)), last if isinstance(last, date) else None)
