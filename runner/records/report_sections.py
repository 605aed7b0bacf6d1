"""The parts of a training's report, each as HTML; `records.run_report` puts them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runner.charts import Axis, Period, axis, histogram, interval, timeline
from runner.markup import Markup, section, table, tag
from runner.modelling.bootstrap import Interval
from runner.modelling.feature_profile import FeatureProfile, feature_profiles
from runner.modelling.slices import Slice
from runner.project.manifest import EVENT_TIMESTAMP
from runner.records.report_values import PERSONAL, cut, ends, number, personal_columns
from runner.records.run_record import Training

SHOWN_FEATURES = 150
"""A report shows at most this many model inputs, to stay below 1 MB."""
_LEAST_SHARE = 0.001


def score_cards(training: Training) -> Markup:
    """Return the scores on test rows, large, each with its interval."""
    model = training.model
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("span", name, class_="note"),
                tag("b", number(model.evaluation.test[name])),
                tag("span", f"95% CI {found}", class_="note")
                if (found := ends(model.intervals.get(name)))
                else Markup(),
                class_="card",
            )
            for name in training.recipe.scoring
        ),
        class_="cards",
    )


def scores_section(training: Training) -> Markup:
    """Return every score on training and test rows."""
    model, rows = training.model, []
    for name in training.recipe.scoring:
        train, test = model.evaluation.train[name], model.evaluation.test[name]
        found = model.intervals.get(name)
        least = training.recipe.gate.get(name)
        marks = [test, *((found.low, found.high) if found else ()), *_some(least)]
        rows.append(
            [
                name,
                number(train),
                number(test),
                ends(found),
                interval(axis(marks), test, (found.low, found.high) if found else None, least),
            ]
        )
    head = ["scorer", "training rows", "test rows", "95% CI", "on test rows"]
    return section(
        "Scores",
        tag("p", "Of the model as it is served; greater is better.", class_="note"),
        table(head, rows, numbers=(1, 2)),
    )


def gate_section(training: Training) -> Markup:
    """Return what decided whether the model may become the champion."""
    scores = training.model.evaluation.test
    rows = [
        [name, f"at least {least:g}", number(scores[name]), _passed(scores[name] >= least)]
        for name, least in training.recipe.gate.items()
    ]
    compared = training.model.comparison
    if metrics := compared.metrics:
        difference = Interval(
            *(metrics[f"champion_difference{end}"] for end in ("", "_low", "_high"))
        )
        shown = f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
        expected = f"better than version {compared.version} by more than noise"
        rows.append([training.recipe.scoring[0], expected, shown, _passed(not compared.refusal)])
    else:
        verdict = _passed(not compared.refusal)
        rows.append(["champion", "not worse, if there is one", compared.summary, verdict])
    reasons = [tag("li", reason) for reason in training.refusals]
    return section(
        "What decided the gate",
        table(["check", "needed", "found", ""], rows),
        *([tag("ul", *reasons)] if reasons else []),
    )


def data_section(training: Training) -> Markup:
    """Return the rows of each part of the split, their times and their labels."""
    data, lineage = training.prepared.data, training.lineage
    rows, periods = [], []
    for name, mask in data.split.parts.items():
        times = data.table[EVENT_TIMESTAMP].filter(pa.array(mask))
        first, last = (time.as_py() for time in pc.min_max(times).values())
        begin, end = f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M}"
        labels = _labels(training, data.parts[name].y)
        rows.append([name, f"{int(mask.sum()):,}", begin, end, labels])
        kind = "test" if name == "test" else "own"
        title = f"{name}: {begin} to {end} UTC"
        periods.append(Period(first.timestamp(), last.timestamp(), kind, title))
    whole = Period(periods[0].begin, periods[-1].end, "gap", "the whole spine")
    facts = table(
        ["", ""],
        [
            ["spine", lineage["spine"]],
            ["rows in the embargo, used for nothing", f"{data.split.embargoed:,}"],
            ["dataset sha256", lineage["dataset_sha256"]],
        ],
    )
    head = ["part", "rows", "from (UTC)", "to (UTC)", training.recipe.label]
    return section(
        "Data and split", timeline([whole, *periods]), table(head, rows, numbers=(1,)), facts
    )


def features_section(training: Training) -> Markup:
    """Return each model input's distribution over training and test rows."""
    prepared, hidden = training.prepared, personal_columns(training)
    shown = prepared.inputs[:SHOWN_FEATURES]
    found = feature_profiles(prepared.data.table, prepared.data.split, shown)
    about = {feature.column: feature.description for feature in prepared.features}
    about |= {given.column: given.description for given in prepared.request}
    about |= {column.name: column.written for column in prepared.computed}
    rows = [
        [
            tag("span", tag("b", each.column), " ", tag("span", each.dtype, class_="note")),
            tag("span", cut(about.get(each.column, "")), class_="note"),
            _missing(each),
            *_distribution(each, is_personal=each.column in hidden),
        ]
        for each in found
    ]
    rest = len(prepared.inputs) - len(shown)
    more = f"{rest:,} more model inputs are not shown." if rest else ""
    key = tag(
        "p",
        tag("span", "training rows", class_="key first"),
        " ",
        tag("span", "test rows", class_="key second"),
    )
    head = ["model input", "meaning", "missing", "distribution", "values"]
    return section("Features", key, table(head, rows), *([tag("p", more)] if more else []))


def slices_section(training: Training) -> Markup:
    """Return the scores on parts of the test rows; nothing for a recipe without slices."""
    slices, scoring = training.model.slices, training.recipe.scoring
    if not slices:
        return Markup()
    primary, hidden = scoring[0], personal_columns(training)
    scored = [each.scores[primary] for each in slices if primary in each.scores]
    whole = training.model.evaluation.test[primary]
    on = axis([whole, *(end for each in scored for end in (each.low, each.high))])
    parts = []
    for name in dict.fromkeys(each.name for each in slices):
        of_name = [each for each in slices if each.name == name]
        rows = [_slice(each, scoring, on, whole, is_personal=name in hidden) for each in of_name]
        head = ["value", "test rows", *scoring, f"{primary}, 95% CI"]
        parts += [tag("h3", name), table(head, rows, numbers=range(1, 2 + len(scoring)))]
    note = f"The orange line is {primary} on all test rows, {number(whole)}; bars are 95% CIs."
    return section("Slices", tag("p", note, class_="note"), *parts)


def lineage_section(training: Training) -> Markup:
    """Return the raw columns of each model input, and the code that made them."""
    lineage = training.lineage
    raw = list(lineage["raw_columns"].items())
    rows = [[name, ", ".join(columns) or "none found"] for name, columns in raw[:SHOWN_FEATURES]]
    facts = [[name, str(lineage[name])] for name in ("git_commit", "dbt_manifest_sha256")]
    facts.append(["estimator", training.recipe.estimator.class_path])
    facts.append(["served as", f"{training.model.served.format}: {training.model.served.proof}"])
    gaps = [
        tag("li", f"{name}: {reason}")
        for name, reason in lineage.get("raw_columns_unresolved", {}).items()
    ]
    return section(
        "Lineage",
        table(["model input", "raw columns"], rows),
        *([tag("p", "Unresolved:"), tag("ul", *gaps)] if gaps else []),
        table(["", ""], facts),
    )


def _some(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _passed(is_passed: bool) -> Markup:
    return (
        tag("span", "passed", class_="good") if is_passed else tag("span", "failed", class_="bad")
    )


def _labels(training: Training, y: np.ndarray) -> str:
    if training.recipe.task == "regression":
        low, middle, high = np.percentile(y.astype(float), (5, 50, 95))
        return f"median {middle:.4g}, 90 % from {low:.4g} to {high:.4g}"
    values, counts = np.unique(y.astype(str), return_counts=True)
    order = counts.argsort()[::-1][:8]
    return ", ".join(f"{values[i]}: {counts[i] / len(y):.1%}" for i in order)


def _missing(each: FeatureProfile) -> Markup:
    train, test = each.training.missing, each.test.missing
    if max(train, test) < _LEAST_SHARE:
        return tag("span", "none" if max(train, test) == 0 else "< 0.1%")
    first, second = f"{train:.1%}", f"{test:.1%}"
    return tag(
        "span", tag("span", first, class_="first"), " ", tag("span", second, class_="second")
    )


def _distribution(each: FeatureProfile, *, is_personal: bool) -> Iterator[Markup]:
    if is_personal:
        yield from (Markup(), tag("span", PERSONAL, class_="note"))
        return
    yield histogram(each.training.shares, each.test.shares, each.bins)
    lines = (("first", each.training.summary), ("second", each.test.summary))
    yield tag("span", *(tag("div", cut(text), class_=f"{of} note") for of, text in lines))


def _slice(
    each: Slice, scoring: Sequence[str], on: Axis, whole: float, *, is_personal: bool
) -> list[str]:
    found = each.scores.get(scoring[0])
    cells = [
        number(each.scores[name].value) if name in each.scores else each.reasons[name]
        for name in scoring
    ]
    drawn = interval(on, found.value, (found.low, found.high), whole) if found else Markup()
    value = PERSONAL if is_personal else cut(each.value)
    return [value, f"{each.rows:,}", *cells, drawn]
