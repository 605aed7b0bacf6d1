"""What `runner monitor` found, as a table or as JSON."""

from __future__ import annotations

from runner import console
from runner.monitoring.column_figures import TOO_FEW, ColumnFigure
from runner.monitoring.findings import Monitoring
from runner.monitoring.score_cells import SCORE_HEAD, SLICE_HEAD, score_cells, slice_lines
from runner.monitoring.seasons import lacking
from runner.wording import counted

_COLUMNS = ["column", "drift", "p", "missing", "farthest day", "drift then", "drifted days"]
_STATUSES = ["column", "values that are not present"]


def show_monitoring(found: Monitoring, *, as_json: bool) -> None:
    """Print the figures: a line per column, or everything by day as JSON."""
    if as_json:
        console.result_json(found.record)
        return
    window = found.window
    console.result(
        f"{window.model} version {window.version}, {window.since:%Y-%m-%d %H:%M} to "
        f"{window.until:%Y-%m-%d %H:%M} UTC"
    )
    totals: dict[str, int] = {}
    for each in found.versions:
        totals[each.version] = totals.get(each.version, 0) + each.rows
    for version, rows in totals.items():
        console.result(f"version {version}: {counted(rows, 'row')}")
    if found.recipe.monitor and found.recipe.monitor.compare_by:
        console.result(f"drift: each day is compared with {found.compared_with}")
    _show_columns(found)
    _show_quality(found)
    _show_skew(found)


def _show_columns(found: Monitoring) -> None:
    whole = {each.column: each for each in found.figures if not each.day}
    lines = [
        _row(each, [f for f in found.figures if f.day and f.column == name])
        for name, each in whole.items()
    ]
    console.result_table("", _COLUMNS, lines)
    statuses = [[name, each.shown_statuses] for name, each in whole.items() if each.shown_statuses]
    if statuses:
        console.result_table("", _STATUSES, statuses)


def _show_quality(found: Monitoring) -> None:
    quality = found.quality
    if quality.reason:
        console.result(f"no live quality: {quality.reason}")
        return
    console.result(
        f"labels: {counted(quality.labelled, 'row has', 'rows have')} one, "
        f"{counted(quality.not_due, 'is', 'are')} not due yet, "
        f"{counted(quality.without, 'is due and has', 'are due and have')} none"
    )
    lines = [
        [
            f"version {each.shown_as}",
            *score_cells(each.scorer, each.interval, each.reason, found.on_test_rows(each)),
        ]
        for each in quality.scores
        if not each.day
    ]
    console.result_table("", ["", *SCORE_HEAD], lines)
    if quality.slices:
        console.result_table("", SLICE_HEAD, list(slice_lines(found, found.recipe.scoring[:1])))
    for name, why in quality.unsliced.items():
        console.result(f"slice {name} is not scored: {why}")


def _show_skew(found: Monitoring) -> None:
    compared = max((each.compared for each in found.skew), default=0)
    differing = [each for each in found.skew if each.causes]
    console.result(
        f"skew: {counted(compared, 'row')} compared with the point-in-time join, "
        f"{len(differing)} of {len(found.skew)} features differ"
    )
    if differing:
        lines = [
            [
                each.feature,
                f"{each.share:.1%}",
                ", ".join(f"{count:,} {cause}" for cause, count in sorted(each.causes.items())),
            ]
            for each in differing
        ]
        console.result_table("", ["feature", "skew", "values that differ"], lines)


def _row(whole: ColumnFigure, days: list[ColumnFigure]) -> list[str]:
    tested = [each for each in days if each.p_value is not None]
    farthest = max(tested or days, key=lambda each: each.drift)
    drifted = sum(each.has_drifted for each in days)
    return [
        whole.column,
        f"{whole.drift:.3f}",
        "–" if whole.p_value is None else f"{whole.p_value:.2g}",
        "" if whole.missing is None else f"{whole.missing:.1%}",
        farthest.day,
        f"{farthest.drift:.3f}",
        f"{drifted} of {len(tested)}" if tested else lacking(whole.lacks) or TOO_FEW,
    ]
