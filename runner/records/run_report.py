"""The report of a training: one HTML file that opens anywhere, without network."""

from __future__ import annotations

from pathlib import Path

from runner.markup import Markup, page, picture, section, table, tag
from runner.records.report_sections import (
    data_section,
    features_section,
    gate_section,
    lineage_section,
    score_cards,
    scores_section,
    slices_section,
)
from runner.records.run_record import Training

REPORT = "report.html"
_PICTURE_BYTES = 400_000  # of all pictures: with the features, the page stays below 1 MB


def run_report(training: Training, run_id: str, plots: Path) -> Markup:
    """Return the report of a training whose plots are in the folder `plots`."""
    recipe = training.recipe
    about = [recipe.description] if recipe.description else []
    trained = (
        f"{recipe.registered_model_name} predicts {recipe.label} ({recipe.task}). Trained by "
        f"recipe {recipe.name} on {training.prepared.started_at:%Y-%m-%d %H:%M} UTC, run {run_id}."
    )
    return page(
        f"{recipe.registered_model_name}: report of a training",
        *(tag("p", text) for text in about),
        tag("p", trained, class_="note"),
        _verdict(training),
        score_cards(training),
        gate_section(training),
        scores_section(training),
        data_section(training),
        features_section(training),
        slices_section(training),
        plots_section(plots),
        lineage_section(training),
        _details(training),
    )


def plots_section(folder: Path) -> Markup:
    """Return the PNG files of `folder` as figures; those too large for a page by name."""
    figures, room = [], _PICTURE_BYTES
    for path in sorted(folder.glob("*.png")):
        content = path.read_bytes()
        if len(content) > room:
            figures.append(tag("p", f"plots/{path.name} is too large for this page", class_="note"))
            continue
        room -= len(content)
        title = path.stem.replace("_", " ")
        figures.append(tag("figure", picture(content, title), tag("figcaption", title)))
    return section("Plots", tag("div", *figures, class_="pictures"))


def _verdict(training: Training) -> Markup:
    if training.refusals:
        return tag("p", "The gate refused it.", class_="bad")
    return tag("p", "It passed the gate.", class_="good")


def _details(training: Training) -> Markup:
    params = [[name, str(value)[:500]] for name, value in training.params.items()]
    written = tag("pre", training.recipe.source.text)
    return section(
        "Recipe and parameters",
        tag("details", tag("summary", "Recipe"), written),
        tag("details", tag("summary", "Parameters"), table(["parameter", "value"], params)),
    )
