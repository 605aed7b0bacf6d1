"""`runner monitor`: what the champion was asked and answered, held against its training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from contract.scoring import Model
from runner import console
from runner.collecting.served_rows import PREDICTIONS
from runner.duration import parse_duration
from runner.errors import RunnerError
from runner.feature_store.as_of import open_as_of
from runner.monitoring.column_figures import ColumnFigure, column_figures
from runner.monitoring.live_quality import LiveQuality, live_quality
from runner.monitoring.monitored import Monitored, monitored_columns
from runner.monitoring.served_log import ServedLog, VersionDay, Window
from runner.monitoring.traffic_skew import FeatureSkew, traffic_skew
from runner.packaging.served_version import load_version
from runner.project.manifest import EVENT_TIMESTAMP, load_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
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
    skew
        How what it saw differs from the point-in-time join, per feature.
    """

    window: Window
    versions: Sequence[VersionDay]
    columns: Sequence[Monitored]
    figures: Sequence[ColumnFigure]
    ages: dict[tuple[str, str], float]
    quality: LiveQuality
    test_scores: Mapping[str, float]
    skew: Sequence[FeatureSkew]


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
    recipe, manifest = load_recipe(path), load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    start = None if since is None else _instant(since, now)
    require_servers(settings, ["PostgreSQL"])
    reader = open_reader(settings)
    champion = find_champion(reader, recipe.registered_model_name)
    name, version = champion.version.name, champion.version.version
    window = Window(name, version, champion.run.run_id, start or champion.since, now)
    with console.step(f"{name} version {version}: training rows"):
        model, _ = load_version(settings, f"models:/{name}/{version}")
        columns = _columns(model, champion, training_rows(reader, champion))
    with open_served_log(settings, PREDICTIONS) as opened:
        log = ServedLog(opened, window)
        with console.step("drift") as step:
            versions = log.versions()
            _require_rows(window, versions)
            figures = column_figures(log, columns)
            ages = log.ages(_views(columns))
            step.update(f"{sum(each.rows for each in versions):,} rows")
        with console.step("live quality"):
            others = sorted({each.version for each in versions})
            label = model.bundle.label
            quality = live_quality(opened, window, manifest, recipe, label, others)
        with console.step("skew"):
            as_of = open_as_of(settings, manifest, recipe)
            skew = traffic_skew(log, model.bundle, manifest, as_of)
    return Monitoring(window, versions, columns, figures, ages, quality, champion.run.scores, skew)


def _columns(model: Model, champion: Champion, rows: pa.Table) -> list[Monitored]:
    trained, tested = champion.parts(rows)
    taken = [*model.bundle.row_dtypes, EVENT_TIMESTAMP]
    predictions = model.score({name: tested[name] for name in taken})
    return monitored_columns(model.bundle, trained, tested, predictions)


def _views(columns: Sequence[Monitored]) -> list[str]:
    return sorted({each.shown_as.partition(":")[0] for each in columns if each.is_feature})


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
