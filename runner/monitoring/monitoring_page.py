"""What `runner monitor` found as one HTML page, with its pictures in it: nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.markup import Markup, page, section, table, tag
from runner.monitoring.findings import Monitoring
from runner.monitoring.score_cells import SCORE_HEAD, SLICE_HEAD, score_cells, slice_lines
from runner.wording import counted


def monitoring_page(found: Monitoring, pictures: Iterable[tuple[str, str, str]]) -> Markup:
    """Return the page.

    Parameters
    ----------
    pictures
        (File name, title, SVG) of each.
    """
    window = found.window
    return page(
        f"{window.model} version {window.version}: monitoring",
        tag(
            "p",
            f"{window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M} UTC, run "
            f"{window.run_id}.",
            class_="note",
        ),
        _drift(found),
        _quality(found),
        _skew(found),
        *(section(title, Markup(svg[svg.index("<svg") :])) for _, title, svg in pictures),
    )


def _drift(found: Monitoring) -> Markup:
    whole = sorted((f for f in found.figures if not f.day), key=lambda each: -each.drift)
    rows = [
        [
            f.column,
            f"{f.drift:.3f}",
            _number(f.p_value, ".2g"),
            _number(f.missing, ".1%"),
            f.shown_statuses,
        ]
        for f in whole
    ]
    head = ["column", "drift", "p", "missing", "values that are not present"]
    note = tag("p", f"Each day is compared with {found.compared_with}.")
    return section("Drift", note, table(head, rows, (1, 2, 3)))


def _quality(found: Monitoring) -> Markup:
    quality = found.quality
    if quality.reason:
        return section("Live quality", tag("p", f"None: {quality.reason}."))
    labels = (
        f"{counted(quality.labelled, 'row has', 'rows have')} a label, "
        f"{counted(quality.not_due, 'is', 'are')} not due yet, "
        f"{counted(quality.without, 'is due and has', 'are due and have')} none."
    )
    rows = [
        [
            each.shown_as,
            *score_cells(each.scorer, each.interval, each.reason, found.on_test_rows(each)),
            f"{each.rows:,}",
        ]
        for each in quality.scores
        if not each.day
    ]
    scores = table(["version", *SCORE_HEAD, "rows"], rows, (2, 4, 5))
    return section("Live quality", tag("p", labels), scores, *_slices(found))


def _slices(found: Monitoring) -> Iterator[Markup]:
    if found.quality.slices:
        lines = list(slice_lines(found, found.recipe.scoring))
        yield tag("h3", "Slices")
        yield table(SLICE_HEAD, lines, (2, 3, 4, 6, 8))
    for name, why in found.quality.unsliced.items():
        yield tag("p", f"Slice {name} is not scored: {why}.")


def _skew(found: Monitoring) -> Markup:
    rows = [
        [
            each.feature,
            f"{each.compared:,}",
            f"{each.share:.1%}",
            ", ".join(f"{count:,} {cause}" for cause, count in sorted(each.causes.items())),
        ]
        for each in found.skew
    ]
    head = ["feature", "rows compared", "skew", "values that differ"]
    return section("Skew", table(head, rows, (1, 2)))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
