"""The pictures of a monitoring, as SVG: what has drifted, and how good the predictions were."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runner.monitoring.column_figures import ColumnFigure
from runner.monitoring.findings import Monitoring
from runner.monitoring.monitored import Monitored
from runner.monitoring.reliability import ReliabilityBin

_MOST = 12  # columns in a picture: those that have drifted most
_THEN, _NOW = "#9aa5b1", "#d1495b"
# Names of columns, scorers and categories are the user's: `$x$` is no formula in them.
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "runner",
    "font.size": 8,
    "text.parse_math": False,
}


def pictures(found: Monitoring) -> list[tuple[str, str, str]]:
    """Return (file name, title, SVG) of each picture."""
    with mpl.rc_context(_STYLE):
        return list(_pictures(found))


def _pictures(found: Monitoring) -> Iterator[tuple[str, str, str]]:
    whole = sorted((f for f in found.figures if not f.day), key=lambda each: -each.drift)
    shown = whole[:_MOST]
    columns = {each.shown_as: each for each in found.columns}
    yield (
        "distributions",
        "Training rows (grey) and the window (red), shares by bin",
        _distributions(shown, columns),
    )
    names = [each.column for each in shown]
    yield "drift", "Drift by day", _by_day(found.figures, names, "drift")
    missing = [each.column for each in whole if each.missing is not None][:_MOST]
    if missing:
        yield "missing", "Missing or expired by day", _by_day(found.figures, missing, "missing")
    scorers = dict.fromkeys(each.scorer for each in found.quality.scores if each.day)
    for scorer in scorers:
        yield (
            f"live_{scorer}",
            f"Live {scorer} by day, with its 95% CI",
            _score(found, scorer),
        )
    if found.quality.reliability:
        yield (
            "reliability",
            "Reliability in the window: how often a probability came true, with its 95% CI",
            _reliability(found.quality.reliability),
        )


def _distributions(shown: Sequence[ColumnFigure], columns: dict[str, Monitored]) -> str:
    rows = -(-len(shown) // 3)
    figure = Figure(figsize=(10, 2.2 * rows), layout="constrained")
    for i, each in enumerate(shown, 1):
        axes, column = figure.add_subplot(rows, 3, i), columns[each.column]
        places = range(len(each.shares))
        axes.bar([p - 0.2 for p in places], each.expected, 0.4, color=_THEN)
        axes.bar([p + 0.2 for p in places], each.shares, 0.4, color=_NOW)
        axes.set_xticks(list(places), column.bins.labels, rotation=90, fontsize=5)
        axes.set_title(f"{each.column}: {each.drift:.3f}", fontsize=8)
    return _svg(figure)


def _by_day(figures: Sequence[ColumnFigure], names: Sequence[str], what: str) -> str:
    with _axes() as (figure, axes):
        for name in names:
            of = [each for each in figures if each.day and each.column == name]
            values = [each.drift if what == "drift" else each.missing or 0.0 for each in of]
            axes.plot([each.day for each in of], values, marker=".", label=name)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure)


def _score(found: Monitoring, scorer: str) -> str:
    of = [s for s in found.quality.scores if s.day and s.scorer == scorer]
    scored = [(each.day, each.interval) for each in of if each.interval]
    with _axes() as (figure, axes):
        days, intervals = [day for day, _ in scored], [interval for _, interval in scored]
        axes.fill_between(
            days, [i.low for i in intervals], [i.high for i in intervals], color=_THEN, alpha=0.4
        )
        axes.plot(days, [i.value for i in intervals], marker=".", color=_NOW, label="live")
        if scorer in found.test_scores:
            axes.axhline(found.test_scores[scorer], color="black", ls="--", label="test rows")
        axes.legend(fontsize=6)
    return _svg(figure)


def _reliability(bins: Sequence[ReliabilityBin]) -> str:
    said, came = [each.predicted for each in bins], [each.observed for each in bins]
    ends = [
        [max(0.0, each.observed - each.low) for each in bins],
        [max(0.0, each.high - each.observed) for each in bins],
    ]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    far = max(*said, *(each.high for each in bins))
    axes.plot([0, far], [0, far], ":", color="gray", label="perfectly calibrated")
    axes.errorbar(said, came, ends, fmt="o-", capsize=3, color=_NOW, label="live")
    axes.set(xlabel="probability that was answered", ylabel="share that came true")
    axes.legend(fontsize=6)
    return _svg(figure)


@contextmanager
def _axes() -> Iterator[tuple[Figure, Axes]]:
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.add_subplot()
    yield figure, axes
    axes.tick_params(axis="x", rotation=90, labelsize=6)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
