"""Two trained models side by side, as one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner import console
from runner.charts import axis, interval
from runner.commands.models.comparison_report import shown, verdict
from runner.commands.models.model_comparison import ComparedProperty, compared_plots
from runner.errors import RunnerError
from runner.markup import Markup, page, picture, section, table, tag

if TYPE_CHECKING:
    from runner.settings import Settings

Names = tuple[str, str]
Metrics = Mapping[str, tuple[float | None, float | None]]


def write_comparison(
    settings: Settings, rows: Sequence[ComparedProperty], names: Names, path: Path
) -> None:
    """Write the page of the compared properties and plots of two models to `path`.

    Raises
    ------
    RunnerError
        If the file cannot be written.
    """
    text = comparison_page(rows, names, compared_plots(settings, *names))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise RunnerError(
            f"{path}: cannot be written: {err.strerror}", hint="choose another file for --html"
        ) from err
    console.note(f"wrote {path}")


def comparison_page(
    rows: Sequence[ComparedProperty], names: Names, plots: Mapping[str, list[bytes | None]]
) -> Markup:
    """Return the page: scores, all that differs, plots, and what is equal."""
    others = [row for row in rows if row.group != "metrics"]
    differing = [row for row in others if row.differs]
    equal = [row for row in others if not row.differs]
    return page(
        f"{names[0]} and {names[1]}",
        tag("p", verdict(rows)),
        _scores({row.name: (row.a, row.b) for row in rows if row.group == "metrics"}, names),
        section("What differs", _properties(differing, names)),
        section("Plots", *(_pair(name, both, names) for name, both in plots.items())),
        section(
            "What is equal",
            tag("details", tag("summary", f"{len(equal)} properties"), _properties(equal, names)),
        ),
        section("Metrics", _properties([row for row in rows if row.group == "metrics"], names)),
    )


def _scores(metrics: Metrics, names: Names) -> Markup:
    """Return each score on test rows, those of one scorer on the same axis."""
    scorers = (name.removeprefix("train_") for name in metrics if name.startswith("train_"))
    rows = [row for scorer in scorers for row in _of_scorer(metrics, scorer, names)]
    head = ["scorer", "model", "test rows", "95% CI", ""]
    note = "The test rows of the two may differ: compare their periods below."
    return section("Scores", tag("p", note, class_="note"), table(head, rows, numbers=(2,)))


def _of_scorer(metrics: Metrics, scorer: str, names: Names) -> Iterator[list[str]]:
    keys = (f"test_{scorer}", f"test_{scorer}_low", f"test_{scorer}_high")
    both = [[metrics.get(key, (None, None))[i] for key in keys] for i in range(len(names))]
    on = axis([number for numbers in both for number in numbers if number is not None] or [0.0])
    for name, (value, low, high) in zip(names, both, strict=True):
        if value is None:
            yield [scorer, name, "–", "", ""]
        elif low is None or high is None:  # an earlier version recorded no interval
            yield [scorer, name, f"{value:,.4f}", "", interval(on, value)]
        else:
            ends = f"{low:,.4f} to {high:,.4f}"
            yield [scorer, name, f"{value:,.4f}", ends, interval(on, value, (low, high))]


def _properties(rows: Sequence[ComparedProperty], names: Names) -> Markup:
    cells = [[row.group, row.name, shown(row.a), shown(row.b)] for row in rows]
    return table(["", "", *names], cells)


def _pair(name: str, both: Sequence[bytes | None], names: Names) -> Markup:
    title = name.replace("_", " ")
    figures = [
        tag(
            "figure",
            *([picture(content, f"{title} of {of}")] if content else []),
            tag("figcaption", of if content else f"{of}: not recorded"),
        )
        for content, of in zip(both, names, strict=True)
    ]
    return tag("div", tag("h3", title), tag("div", *figures, class_="pictures"))
