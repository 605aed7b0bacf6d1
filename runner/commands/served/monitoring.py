"""`runner monitor`: what the champion was asked and answered, compared with its training."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from contract.scoring import Model
from runner import console
from runner.collecting.served_rows import PREDICTIONS
from runner.duration import PATTERN, parse_duration
from runner.errors import RunnerError
from runner.feature_store.as_of import open_as_of
from runner.monitoring.broken_limits import (
    hints,
    unchecked_ages,
    unchecked_drift,
    unchecked_scores,
)
from runner.monitoring.column_figures import column_figures
from runner.monitoring.findings import Monitoring
from runner.monitoring.live_quality import live_quality
from runner.monitoring.monitored import Monitored, monitored_columns
from runner.monitoring.monitoring_page import monitoring_page
from runner.monitoring.pictures import pictures
from runner.monitoring.served_log import ServedLog, VersionDay, Window
from runner.monitoring.traffic_skew import traffic_skew
from runner.packaging.served_version import load_version
from runner.project.manifest import EVENT_TIMESTAMP, load_manifest
from runner.recipes.limits import MonitorLimits, Season
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from runner.records.champion import ServedChampion, find_champion, slice_scores, training_rows
from runner.records.monitoring_run import record_monitoring
from runner.records.run_reader import open_reader
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.figures_table import FiguredDays
from runner.warehouse.open_collected import open_figures, open_served_log


def monitor(settings: Settings, path: Path, since: str | None = None) -> Monitoring:
    """Return what the serving log says of the recipe's champion.

    Parameters
    ----------
    since
        A duration such as `7d`, or a time in ISO 8601, in UTC if it names no zone; the window
        begins with its day. None: since the champion was promoted.

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
    runs = open_reader(settings)
    champion = find_champion(runs, recipe.registered_model_name)
    name, version = champion.version.name, champion.version.version
    window = Window(name, version, champion.run.run_id, start or _midnight(champion.since), now)
    with console.step(f"{name} version {version}: training rows"):
        model, _ = load_version(settings, f"models:/{name}/{version}")
        by = recipe.monitor.compare_by if recipe.monitor else None
        columns = _columns(model, champion, training_rows(runs, champion), by)
    with open_served_log(settings, PREDICTIONS) as opened:
        log = ServedLog(opened, window)
        with console.step("drift") as step:
            versions = log.versions()
            _require_rows(window, versions)
            figures = column_figures(log, columns)
            step.update(f"{sum(each.rows for each in versions):,} rows")
        with console.step("live quality"):
            answered = [(each, False) for each in sorted({day.version for day in versions})]
            answered += [(each, True) for each in log.shadows()]
            quality = live_quality(opened, window, manifest, recipe, model.bundle, answered)
        with console.step("skew"):
            as_of = open_as_of(settings, manifest, recipe)
            skew = traffic_skew(log, model.bundle, manifest, as_of)
        ages = log.ages(_views(columns))
    return Monitoring(
        recipe=recipe,
        window=window,
        versions=versions,
        columns=columns,
        figures=figures,
        ages=ages,
        quality=quality,
        test_scores=champion.run.scores,
        test_slices=slice_scores(runs, champion) if recipe.slices else {},
        skew=skew,
    )


def keep(settings: Settings, found: Monitoring) -> str:
    """Write each day's figures to the warehouse, and everything to an MLflow run; return its id.

    The run is below that of the champion's training, and has a report as one HTML file.
    """
    window, rows = found.window, list(found.rows())
    # The figures of days before stay: `runner collect --keep` deleted their log.
    first = min(row.day for row in rows)
    days = FiguredDays(window.model, window.version, first, window.until.date())
    with console.step("report"), TemporaryDirectory() as name:
        folder, drawn = Path(name), pictures(found)
        with open_figures(settings) as store:
            store.replace(days, rows)
        (folder / "monitoring.json").write_text(json.dumps(found.record, indent=2))
        (folder / "report.html").write_text(monitoring_page(found, drawn), encoding="utf-8")
        for file, _, svg in drawn:
            (folder / f"{file}.svg").write_text(svg, encoding="utf-8")
        return record_monitoring(settings, window, rows, folder)


def require_within_limits(found: Monitoring) -> None:
    """Raise if a limit of the recipe's `monitor` is broken.

    Raises
    ------
    RunnerError
        Naming every limit that is: column, value and limit.
    """
    limits = found.recipe.monitor
    if limits is None:
        return
    _warn_of_unchecked(limits, found)
    if broken := found.broken_limits:
        raise found.recipe.source.errors([each.problem for each in broken], hints(broken))


def _warn_of_unchecked(limits: MonitorLimits, found: Monitoring) -> None:
    """Warn of what is not known: it breaks no limit."""
    scores = unchecked_scores(limits, found.quality.scores, found.window.version)
    columns = [each.shown_as for each in found.columns]
    drift = unchecked_drift(limits, found.figures, columns)
    for limit, names, why in (
        ("min_scores", list(scores), found.quality.reason),
        *(("max_drift", names, why) for why, names in drift.items()),
        ("max_age", unchecked_ages(limits, found.ages, _views(found.columns)), "no row was read"),
    ):
        if names:
            because = f": {why}" if why else ""
            console.warn(f"{limit} is not checked for {', '.join(names)}{because}")


def _columns(
    model: Model, champion: ServedChampion, rows: pa.Table, by: Season | None
) -> list[Monitored]:
    trained, tested = champion.parts(rows)
    taken = [*model.bundle.row_dtypes, EVENT_TIMESTAMP]
    predictions = model.score({name: tested[name] for name in taken})
    return monitored_columns(model.bundle, trained, tested, predictions, by)


def _views(columns: Sequence[Monitored]) -> list[str]:
    return sorted({each.shown_as.partition(":")[0] for each in columns if each.is_feature})


def _require_rows(window: Window, versions: Sequence[VersionDay]) -> None:
    if not any(each.version == window.version for each in versions):
        raise RunnerError(
            f"the collected serving log has no row that {window.model} version {window.version} "
            f"answered since {window.since:%Y-%m-%d %H:%M} UTC",
            hint="run `runner collect`, or name an earlier --since",
        )


def _instant(since: str, now: datetime) -> datetime:
    """Return when the day begins, in UTC, that `since` is on."""
    is_duration = re.fullmatch(PATTERN, since) is not None
    try:
        instant = now - parse_duration(since) if is_duration else datetime.fromisoformat(since)
        return _midnight(instant)
    except (ValueError, OverflowError) as err:
        is_early = is_duration or isinstance(err, OverflowError)
        fault = "begins too early" if is_early else "is neither a duration nor a time"
        raise RunnerError(
            f"--since {since!r} {fault}",
            hint="write 7d, 2026-03-01 or 2026-03-01T12:00:00+01:00",
        ) from err


def _midnight(instant: datetime) -> datetime:
    """Return when the day begins, in UTC, that an instant is on; UTC if it names no zone."""
    known = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    return known.replace(hour=0, minute=0, second=0, microsecond=0)
