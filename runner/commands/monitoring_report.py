"""What `runner monitor` found, as a table or as JSON."""

from __future__ import annotations

from runner import console
from runner.commands.monitoring import Monitoring
from runner.monitoring.column_figures import ColumnFigure

_COLUMNS = ["column", "drift", "p", "missing", "farthest day", "drift then", "drifted days"]


def show_monitoring(found: Monitoring, *, as_json: bool) -> None:
    """Print the figures: a line per column, or everything by day as JSON."""
    if as_json:
        console.result_json(record(found))
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
        console.result(f"version {version}: {rows:,} rows")
    whole = {each.column: each for each in found.figures if not each.day}
    lines = [
        _row(each, [f for f in found.figures if f.day and f.column == name])
        for name, each in whole.items()
    ]
    console.result_table("", _COLUMNS, lines)


def record(found: Monitoring) -> dict[str, object]:
    """Return everything in JSON's types."""
    window = found.window
    return {
        "model": window.model,
        "version": window.version,
        "run_id": window.run_id,
        "since": window.since.isoformat(),
        "until": window.until.isoformat(),
        "versions": [vars(each) for each in found.versions],
        "columns": [each.record for each in found.figures],
        "ages": [
            {"view": view, "day": day, "mean_seconds": age}
            for (view, day), age in sorted(found.ages.items())
        ],
    }


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
        f"{drifted} of {len(tested)}" if tested else "too few rows",
    ]
