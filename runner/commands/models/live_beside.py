"""What the collected serving log says of a version that answered beside a champion."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner import console
from runner.collecting.served_rows import PREDICTIONS
from runner.errors import RunnerError
from runner.monitoring.shadow_days import ShadowDays, ShadowVersion, shadow_days
from runner.project.manifest import load_manifest
from runner.servers.local_servers import require_servers
from runner.warehouse.log_sql import NoTableError
from runner.warehouse.open_collected import open_served_log

if TYPE_CHECKING:
    from runner.monitoring.live_comparison import LiveComparison
    from runner.settings import Settings
    from runner.warehouse.log_sql import LogReader


def require_shadow_days(settings: Settings, shadow: ShadowVersion, champion: str) -> None:
    """Raise unless the version answered as a shadow on as many days as its recipe demands.

    How it compares with the champion on live labels is noted.

    Raises
    ------
    RunnerError
        With how many days it has, and when the last is due.
    """
    needed = shadow.recipe.min_shadow_days
    if needed is None:
        return
    require_servers(settings, ["PostgreSQL"])
    with open_served_log(settings, PREDICTIONS) as reader:
        found = _shadow_days(reader, shadow)
        if found.days:
            _note_comparison(settings, reader, shadow, champion)
    if found.days < needed:
        raise _too_few(shadow, needed, found)


def live_comparison(settings: Settings, versions: Sequence[ShadowVersion]) -> LiveComparison | None:
    """Return how two versions of a model compare on live labels; None if neither was a shadow."""
    require_servers(settings, ["PostgreSQL"])
    with open_served_log(settings, PREDICTIONS) as reader:
        for shadow, champion in (versions, versions[::-1]):
            if _shadow_days(reader, shadow).days:
                found = _compared(settings, reader, shadow, champion.version)
                if found.rows:
                    return found
    return None


def _shadow_days(reader: LogReader, shadow: ShadowVersion) -> ShadowDays:
    try:
        return shadow_days(reader, shadow)
    except NoTableError:  # nothing was ever collected
        return ShadowDays(0, 0, None)


def _compared(
    settings: Settings, reader: LogReader, shadow: ShadowVersion, champion: str
) -> LiveComparison:
    from runner.monitoring.live_comparison import compare_with_shadow
    from runner.monitoring.live_scores import Judge
    from runner.monitoring.outcome_rows import OutcomeRows
    from runner.monitoring.served_log import Window

    recipe = shadow.recipe
    outcome = load_manifest(settings.manifest_path).outcome_of(recipe.spine, recipe.label)
    if outcome is None:
        raise RunnerError(
            f"dbt has no outcome model for {recipe.spine}.{recipe.label}",
            hint="`runner help serving-log` describes outcome models",
        )
    window = Window(shadow.name, champion, "", shadow.created, datetime.now(UTC))
    outcomes = OutcomeRows(reader, window, outcome, shadow.label)
    return compare_with_shadow(Judge(recipe, shadow.label), outcomes, champion, shadow.version)


def _note_comparison(
    settings: Settings, reader: LogReader, shadow: ShadowVersion, champion: str
) -> None:
    try:
        console.note(_compared(settings, reader, shadow, champion).summary)
    except RunnerError as err:  # dbt has not built the outcome model
        console.note(f"not compared on live labels: {err.message}")


def _too_few(shadow: ShadowVersion, needed: int, found: ShadowDays) -> RunnerError:
    version = f"{shadow.name} version {shadow.version}"
    accept = f"`runner promote {shadow.name} {shadow.version} --accept-shadow-days REASON`"
    if not found.days:
        return RunnerError(
            f"{version} has not answered as a shadow yet; its recipe's min_shadow_days is {needed}",
            hint=f"serve with SERVING_SHADOW=models:/{shadow.name}/{shadow.version}, then run "
            f"`runner collect`; or {accept}",
        )
    due = found.due(needed, datetime.now(UTC).date())
    return RunnerError(
        f"{version} has answered as a shadow on {found.days} of {needed} days "
        f"({found.rows:,} rows); it can reach {needed} on {due} at the earliest (min_shadow_days)",
        hint=f"run `runner collect` and promote it then; or {accept}",
    )
