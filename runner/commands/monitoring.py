"""`runner monitor`: what the champion was asked and answered, held against its training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from contract.bundle import Bundle
from runner import console
from runner.collecting.served_rows import PREDICTIONS
from runner.duration import parse_duration
from runner.errors import RunnerError
from runner.monitoring.column_figures import ColumnFigure, column_figures
from runner.monitoring.live_quality import LiveQuality, live_quality
from runner.monitoring.monitored import Monitored, monitored_columns
from runner.monitoring.served_log import ServedLog, VersionDay, Window
from runner.packaging.served_version import load_version
from runner.project.manifest import EVENT_TIMESTAMP
from runner.recipes.recipe import load_recipe
from runner.records.champion import Champion, find_champion, training_rows
from runner.records.run_reader import open_reader
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.open_collected import open_served_log


@dataclass(frozen=True)
class Monitoring:
    """What was found.

    Attributes
    ----------
    versions
        The answered rows of every version of the model, by day.
    columns
        What is monitored of the champion, with the distribution of its training rows.
    figures
        Of each of these columns: in the window first, then day by day.
    ages
        (View, day) → the mean age of its rows when they were read, in seconds.
    quality
        The scores on the labels that came back.
    test_scores
        The champion's scores on its test rows, by scorer.
    """

    window: Window
    versions: Sequence[VersionDay]
    columns: Sequence[Monitored]
    figures: Sequence[ColumnFigure]
    ages: dict[tuple[str, str], float]
    quality: LiveQuality
    test_scores: Mapping[str, float]


def monitor(settings: Settings, path: Path, since: str | None = None) -> Monitoring:
    """Return what the serving log says of the recipe's champion.

    Parameters
    ----------
    since
        A duration such as `7d`, or a time in ISO 8601, in UTC if it names no zone. None: since the
        champion was promoted.

    Raises
    ------
    RunnerError
        If the model has no champion, or the log has no row of it.
    """
    now = datetime.now(UTC)
    recipe = load_recipe(path)
    start = None if since is None else _instant(since, now)
    require_servers(settings, ["PostgreSQL"])
    reader = open_reader(settings)
    champion = find_champion(reader, recipe.registered_model_name)
    with console.step(f"champion {champion.version.name} version {champion.version.version}"):
        columns = _columns(settings, champion, training_rows(reader, champion))
    window = Window(
        champion.version.name,
        champion.version.version,
        champion.run.run_id,
        start or champion.since,
        now,
    )
    with open_served_log(settings, PREDICTIONS) as opened, console.step("serving log") as step:
        log = ServedLog(opened, window)
        versions = log.versions()
        _require_rows(window, versions)
        figures = column_figures(log, columns)
        ages = log.ages(_views(columns))
        step.update(f"{sum(each.rows for each in versions):,} rows")
    return Monitoring(window, versions, columns, figures, ages)


def _columns(settings: Settings, champion: Champion, rows: pa.Table) -> list[Monitored]:
    model, _ = load_version(settings, f"models:/{champion.version.name}/{champion.version.version}")
    trained, tested = champion.parts(rows)
    predictions = model.score({name: tested[name] for name in _inputs(model.bundle)})
    return monitored_columns(model.bundle, trained, tested, predictions)


def _views(columns: Sequence[Monitored]) -> list[str]:
    return sorted({each.shown_as.partition(":")[0] for each in columns if each.is_feature})


def _inputs(bundle: Bundle) -> list[str]:
    return [*bundle.row_dtypes, EVENT_TIMESTAMP]


def _require_rows(window: Window, versions: Sequence[VersionDay]) -> None:
    if not any(each.version == window.version for each in versions):
        raise RunnerError(
            f"no row that {window.model} version {window.version} answered since "
            f"{window.since:%Y-%m-%d %H:%M} UTC is collected",
            hint="`runner collect` moves the serving log to the warehouse; --since begins earlier",
        )


def _instant(since: str, now: datetime) -> datetime:
    try:
        if re.fullmatch("[0-9]+ ?[smhd]", since):
            return now - parse_duration(since)
        instant = datetime.fromisoformat(since)
    except ValueError as err:
        raise RunnerError(
            f"--since {since!r} is neither a duration nor a time",
            hint="write 7d, 2026-03-01 or 2026-03-01T12:00:00+01:00",
        ) from err
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
