"""The report of a training: everything is in one small file, and nothing in it is unescaped."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from runner.markup import Markup, tag
from runner.modelling.contender import Comparison
from runner.modelling.evaluation import Evaluation
from runner.modelling.feature_profile import feature_profiles
from runner.modelling.model_inputs import ModelColumn
from runner.modelling.plots import draw_plots
from runner.modelling.slices import Slice
from runner.modelling.split import TimeSplit
from runner.records.report_sections import (
    SHOWN_FEATURES,
    features_section,
    gate_section,
    slices_section,
)
from runner.records.run_report import run_report
from tests.modelling import COLUMNS, FEATURES, MART, make_recipe
from tests.trainings import START, changed, train

ATTACK = """<script>alert("1")</script>'"><img src=x onerror=alert(1)>&amp;"""
RUN_ID = "0" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a training and the folder of its plots."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "recipes").mkdir()
    more = 'slices: ["activity:country"]\ngate: {roc_auc: 0.6}\n'
    training = train(folder, make_recipe(folder / "recipes" / "m.yaml", more=more))
    plots = folder / "plots"
    plots.mkdir()
    draw_plots(plots, training.model.pipeline, *training.prepared.data.test, scorer="roc_auc")
    return training, plots


class Reader(HTMLParser):
    """The elements of a page, their attributes and its visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b", tag("b", "&"), title='"') == (
        '<p title="&quot;">a &lt; b<b>&amp;</b></p>'
    )
    assert isinstance(tag("p"), Markup)


def test_the_report_has_scores_split_features_slices_plots_and_lineage(made):
    training, plots = made
    read = Reader(run_report(training, RUN_ID, plots))
    score = f"{training.model.evaluation.test['roc_auc']:.4f}"
    for text in (
        *(score, "0.7000 to 0.9000", "at least 0.6", "304", "activity__country", "de 67%"),
        *("25.0%", "raw_data.orders.id", "it is not SQL", "registered_model_name: m", RUN_ID),
        *("fewer than 50 rows", "n_estimators", training.prepared.dataset_sha256),
    ):
        assert text in read.text
    pictures = [value for name, value in read.attributes if name == "src"]
    assert len(pictures) == 6
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)


def test_the_report_asks_for_nothing_and_runs_nothing(made):
    training, plots = made
    read = Reader(run_report(training, RUN_ID, plots))
    assert not read.tags & {"script", "link", "iframe", "object", "base"}
    names = {name for name, _ in read.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"href", "srcset"})


def attacked(training):
    """Return the training with markup in whatever a user or the data may write."""
    prepared, table = training.prepared, training.prepared.data.table
    hostile = pa.array([ATTACK, None, "b", ATTACK] * (table.num_rows // 4))
    at = table.column_names.index("activity__country")
    table = table.set_column(at, "activity__country", hostile)
    features = [replace(feature, description=ATTACK) for feature in prepared.features]
    slices = [Slice(ATTACK, ATTACK, 10, {}, {"roc_auc": ATTACK})]
    return changed(
        training,
        recipe=prepared.recipe.model_copy(update={"description": ATTACK, "label": ATTACK}),
        features=features,
        data=replace(prepared.data, table=table),
        slices=slices,
        comparison=Comparison("1", ATTACK),
    )


def test_whatever_users_and_data_write_is_shown_as_text(made):
    training, plots = made
    clean = Reader(run_report(training, RUN_ID, plots))
    read = Reader(run_report(attacked(training), RUN_ID, plots))
    assert read.tags <= clean.tags | {"ul", "li"}
    assert {name for name, _ in read.attributes} <= {name for name, _ in clean.attributes}
    assert read.text.count(ATTACK) > 5


def wide(training, count):
    """Return the training with `count` text features of long values, in 20,000 rows."""
    n = 20_000
    names = [f"f{i}" for i in range(count)]
    text = {name: pa.array([f"{'値' * 60}{i % 50}" for i in range(n)]) for name in names}
    stamps = [START + timedelta(minutes=i) for i in range(n)]
    times = pa.array(stamps, pa.timestamp("us", "UTC"))
    table = pa.table({"event_timestamp": times, **{f"activity__{k}": v for k, v in text.items()}})
    is_test = np.arange(n) >= n // 2
    split = TimeSplit(~is_test, is_test, stamps[n // 2 - 1], stamps[n // 2 - 1])
    described = replace(COLUMNS["country"], description="説" * 500)
    columns = {**MART.columns, **dict.fromkeys(names, described)}
    features = [
        replace(FEATURES[3], name=name, mart=replace(MART, columns=columns), description="説" * 500)
        for name in names
    ]
    data = replace(training.prepared.data, table=table, split=split)
    return changed(training, features=features, data=data)


def test_a_wide_recipe_has_a_small_report_that_costs_less_than_a_second(made, tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"p" * 90_000)
    many = wide(made[0], SHOWN_FEATURES + 50)
    before = time.process_time()
    report = run_report(many, RUN_ID, tmp_path)
    spent = time.process_time() - before
    assert "50 more model inputs are not shown." in report
    assert "plots/8.png is too large for this page" in report
    assert len(report.encode()) < 1_000_000
    assert spent < 4, spent  # room for a slow machine


def test_personal_data_are_not_shown(made):
    training, _ = made
    columns = {**MART.columns, "country": replace(COLUMNS["country"], pii=True)}
    features = [
        replace(feature, mart=replace(MART, columns=columns))
        for feature in training.prepared.features
    ]
    hidden = changed(training, features=features)
    shown = Reader(features_section(hidden) + slices_section(hidden)).text
    assert "personal data: not shown" in shown
    assert "de 67%" not in shown
    assert "25.0%" in shown
    assert "de" not in Reader(slices_section(hidden)).text.replace("orange", "")
    assert "de 67%" in features_section(training)


def test_the_report_says_what_decided_the_gate(made):
    training, _ = made
    metrics = {
        f"champion_difference{end}": v for end, v in (("", 0.1), ("_low", -0.1), ("_high", 0.3))
    }
    beaten = Comparison(
        "3", "roc_auc differs: not better by more than noise", metrics, "no clear difference"
    )
    judged = changed(
        training,
        comparison=beaten,
        evaluation=Evaluation({"roc_auc": 1}, {"roc_auc": 0.5}, ("too low",)),
    )
    text = Reader(gate_section(judged)).text
    for said in (
        "at least 0.6",
        "0.5000failed",
        "+0.1000 (-0.1000 to +0.3000)",
        "version 3",
        "too low",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("dtype", "values", "bins", "missing", "shares", "summary"),
    [
        (
            "int64",
            [1, 2, 2, None],
            "2 bins from 0.5 to 2.5",
            0.25,
            (0.33333, 0.66667),
            "1 to 2, median 2",
        ),
        ("float64", [0.5, 0.5, float("nan"), None], "1 bins from", 0.5, (1.0,), "0.5 to 0.5"),
        ("float64", [None] * 4, "1 bins from 0 to 1", 1.0, (0.0,), "no values"),
        ("bool", [True, True, True, False], "2 values", 0.0, (0.75, 0.25), "true 75%, false 25%"),
        ("string", [None] * 4, "0 values", 1.0, (0.0,), "no values"),
    ],
)
def test_a_profile_has_the_share_of_each_bin_and_of_missing_values(
    dtype, values, bins, missing, shares, summary
):
    kind = {"bool": pa.bool_(), "string": pa.string(), "int64": pa.int64()}.get(dtype, pa.float64())
    table = pa.table({"x": pa.array(values * 2, kind)})
    half = np.arange(8) < 4
    split = TimeSplit(half, ~half, START, START)
    [found] = feature_profiles(table, split, [ModelColumn("x", dtype)])
    assert found.bins.startswith(bins)
    assert found.training == found.test
    assert found.training.missing == pytest.approx(missing)
    assert found.training.shares == shares
    assert found.training.summary.startswith(summary)


def test_rare_values_share_the_last_bin():
    table = pa.table({"x": [f"v{i}" for i in range(100)] * 2})
    half = np.arange(200) < 100
    [found] = feature_profiles(
        table, TimeSplit(half, ~half, START, START), [ModelColumn("x", "string")]
    )
    assert found.bins == "100 values, 81 in the last bin"
    assert found.test.shares[-1] == 0.81
