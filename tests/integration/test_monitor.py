"""`runner monitor` on a real PostgreSQL: a month of answers, with a known break."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from contract.bundle import Bundle, BundleFeature
from runner import console
from runner.cli import app
from runner.collecting.served_rows import PREDICTIONS
from runner.commands.served.monitoring import keep, monitor, require_within_limits
from runner.commands.served.monitoring_report import show_monitoring
from runner.errors import CombinedError, RunnerError
from runner.monitoring.bins import CategoryBins
from runner.monitoring.column_figures import column_figures
from runner.monitoring.drift import Sample, distance
from runner.monitoring.findings import Monitoring
from runner.monitoring.live_quality import LiveQuality, live_quality
from runner.monitoring.monitored import monitored_columns
from runner.monitoring.monitoring_page import monitoring_page
from runner.monitoring.outcome_rows import OutcomeRows, SliceColumn
from runner.monitoring.pictures import pictures
from runner.monitoring.seasons import Lack
from runner.monitoring.served_log import ServedLog, Window
from runner.packaging.served_version import load_version
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.records import registry
from runner.records.champion import find_champion
from runner.records.run_reader import open_reader
from runner.warehouse.open_collected import open_served_log
from tests.answered_rows import write
from tests.modelling import feature_table
from tests.served_month import BREAK, DAYS, LOGGED, ORDERS, ROWS, START, VALUE, WORSE, Month

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", name="month")
def _month(tmp_path_factory: pytest.TempPathFactory, module_database: Any) -> Month:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.modelling.slices.MIN_ROWS", 20)  # the test rows are few
        return Month(tmp_path_factory.mktemp("month"), module_database)


@pytest.fixture(scope="module", name="found")
def _found(month: Month) -> Monitoring:
    return monitor(month.settings, month.path, START.isoformat())


def test_the_right_feature_drifts_from_the_right_day(found: Monitoring) -> None:
    drifted = {(each.column, each.day) for each in found.figures if each.has_drifted and each.day}
    days = [(START + timedelta(days=day)).date().isoformat() for day in range(BREAK, DAYS)]
    assert {day for column, day in drifted if column == "activity:value"} == set(days)
    assert {column for column, _ in drifted} <= {"activity:value", "prediction"}


def test_the_warehouse_counts_what_python_counts(month: Month, found: Monitoring) -> None:
    whole = pa.concat_tables(month.tables)
    for column in found.columns[:-1]:
        bins = column.bins.numbers(whole[column.name])
        counts = np.bincount(bins, minlength=len(column.bins.labels)).astype(float)
        [figure] = [f for f in found.figures if f.column == column.shown_as and not f.day]
        assert figure.shares == pytest.approx(counts / counts.sum())
        assert figure.drift == distance(column.reference, Sample(counts, 1))
        assert figure.rows == DAYS * ROWS


def test_versions_and_ages_are_by_day(found: Monitoring) -> None:
    assert len(found.versions) == DAYS
    assert {(each.version, each.rows) for each in found.versions} == {("1", ROWS)}
    assert len(found.ages) == DAYS
    assert list(found.ages.values()) == pytest.approx([7200] * DAYS)


def test_a_row_of_a_sampled_log_counts_for_those_it_represents(
    month: Month, found: Monitoring
) -> None:
    earlier = START - timedelta(days=10)
    table = feature_table(40, seed=5)
    missing = {ORDERS: "missing", VALUE: "null"}
    write(month.settings, month.rows(table, earlier, log_share=0.25, statuses=missing))
    write(month.settings, month.rows(table.slice(0, 4), earlier, server_id="s2"))
    window = Window("m", "1", month.run_id, earlier, earlier + timedelta(days=1))
    with open_served_log(month.settings, PREDICTIONS) as reader:
        log = ServedLog(reader, window)
        [rows], figured = log.versions(), column_figures(log, found.columns)
    assert rows.rows == 44
    figures = {each.column: each for each in figured if each.day}
    assert figures["activity:orders_7d"].missing == pytest.approx(160 / 164)
    assert figures["activity:orders_7d"].statuses == pytest.approx({"missing": 160 / 164})
    assert figures["activity:value"].missing == 0
    assert figures["activity:value"].statuses == pytest.approx({"null": 160 / 164})
    assert figures["activity:value"].shown_statuses == "97.6% null"
    assert figures["activity:value"].p_value is None  # of 44 users nothing is tested


def test_a_weekly_season_is_no_drift_for_days_compared_by_weekday(month: Month) -> None:
    def made(first: int, days: int, gone: int = -1) -> list[pa.Table]:
        """Return a table per day; the value follows the weekday, on all days but one."""
        tables = []
        for number in range(first, first + days):
            table = feature_table(100, seed=300 + number)
            height = 0 if number == gone else 1_000.0 * (START + timedelta(days=number)).weekday()
            place = table.column_names.index(VALUE)
            tables.append(table.set_column(place, VALUE, pc.add(table[VALUE], height)))
        return tables

    trained = pa.concat_tables(made(-140, 70))
    times = [START + timedelta(days=i // 100 - 140) for i in range(trained.num_rows)]
    trained = trained.append_column("user_id", pa.array(range(trained.num_rows)))
    trained = trained.append_column("event_timestamp", pa.array(times, pa.timestamp("us", "UTC")))
    bundle = month.model.bundle
    taken = [*bundle.row_dtypes, "event_timestamp"]
    predictions = month.model.score({name: trained[name] for name in taken})
    drifted, first = {}, START - timedelta(days=70)
    for gone in (-1, -65):
        run_id = f"season{gone}"
        for day, table in enumerate(made(-70, 14, gone)):
            rows = month.rows(table, first + timedelta(days=day), run_id=run_id)
            write(month.settings, rows)
        window = Window("m", "1", run_id, first, first + timedelta(days=14))
        for by in (None, "weekday"):
            columns = monitored_columns(bundle, trained, trained, predictions, by)
            with open_served_log(month.settings, PREDICTIONS) as reader:
                figures = column_figures(ServedLog(reader, window), columns)
            of = [each for each in figures if each.column == "activity:value"]
            drifted[gone, by] = {each.day for each in of if each.has_drifted}
            [whole] = [each for each in of if not each.day]
            assert sum(whole.expected) == pytest.approx(1)
            if (gone, by) == (-1, "weekday"):
                assert whole.drift < 0.1 > max(each.drift for each in of) / 3
    day = (START - timedelta(days=65)).date().isoformat()
    assert len(drifted[-1, None]) == 14  # every day has drifted from the week
    assert (drifted[-1, "weekday"], drifted[-65, "weekday"] - {""}) == (set(), {day})


def test_what_is_shown(found: Monitoring, capsys: pytest.CaptureFixture[str]) -> None:
    show_monitoring(found, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("activity:value"))
    assert f"labels: {DAYS * ROWS:,} rows have one, 0 are not due yet" in "\n".join(lines)
    assert line.split()[-3:] == [str(DAYS - BREAK), "of", str(DAYS)]
    [line] = [line for line in lines if line.startswith("activity:country") and " de " in line]
    german = next(each for each in found.quality.slices if each.value == "de")
    score = f"{german.scores['roc_auc'].value:.4f}"
    assert line.split()[1:7] == ["de", "1,800", "0", "0", "roc_auc", score]
    show_monitoring(found, as_json=True)
    assert json.loads(capsys.readouterr().out) == found.record


def test_live_scores_are_those_of_the_labels_and_fall_on_the_right_day(
    month: Month, found: Monitoring
) -> None:
    assert (found.quality.labelled, found.quality.reason) == (DAYS * ROWS, "")
    by_day = {s.day: s.interval for s in found.quality.scores if s.scorer == "roc_auc"}
    known = month.sql.execute(
        "select cast(event_timestamp at time zone 'UTC' as date)::text, y, "
        "(probabilities ->> '1')::float from outcome.outcome_y"
    ).fetchall()
    for day, interval in by_day.items():
        labels, shares = zip(*[row[1:] for row in known if day in {"", row[0]}], strict=True)
        assert interval is not None
        assert interval.value == pytest.approx(roc_auc_score(labels, shares))
        assert interval.low < interval.value < interval.high
    scores = [interval.value for day, interval in sorted(by_day.items()) if day and interval]
    assert min(scores[:BREAK]) > 0.85 > max(scores[BREAK:WORSE])
    assert min(scores[BREAK:WORSE]) > 0.75 > 0.25 > max(scores[WORSE:])


def test_reliability_is_how_often_a_probability_came_true(month: Month, found: Monitoring) -> None:
    known = month.sql.execute(
        "select y, (probabilities ->> '1')::float from outcome.outcome_y order by 2"
    ).fetchall()
    bins = found.quality.reliability
    assert sum(each.rows for each in bins) == len(known)
    start = 0
    for each in bins:
        labels, shares = zip(*known[start : start + each.rows], strict=True)
        assert (each.predicted, each.observed) == pytest.approx((np.mean(shares), np.mean(labels)))
        assert each.low < each.observed < each.high
        start += each.rows
    assert [each["rows"] for each in found.record["quality"]["reliability"]] == [  # type: ignore[index,call-overload]
        each.rows for each in bins
    ]


def test_slices_are_scored_on_their_own_rows(month: Month, found: Monitoring) -> None:
    slices = {(each.name, each.value): each for each in found.quality.slices}
    assert {name: each.labelled for name, each in slices.items()} == {
        ("activity:country", "de"): DAYS * ROWS / 2,
        ("activity:country", "(null)"): DAYS * ROWS / 4,
        ("activity:country", "fr"): DAYS * ROWS / 4,
        ("activity:is_member", "true"): DAYS * ROWS / 2,
        ("activity:is_member", "(null)"): DAYS * ROWS / 4,
        ("activity:is_member", "false"): DAYS * ROWS / 4,
    }
    labels, shares = zip(
        *month.sql.execute(
            "select y, (o.probabilities ->> '1')::float from outcome.outcome_y as o "
            "join raw_data.predictions using (server_id, server_row) "
            "where features ->> 'activity__country' = 'de'"
        ).fetchall(),
        strict=True,
    )
    german, french = slices["activity:country", "de"], slices["activity:country", "fr"]
    assert german.scores["roc_auc"].value == pytest.approx(roc_auc_score(labels, shares))
    assert [day.rows for day in german.days] == [ROWS / 2] * DAYS
    assert french.days == ()  # fewer than 50 rows on every day
    assert set(found.test_slices) == set(slices)
    assert found.test_slices["activity:country", "de"].keys() == {"roc_auc"}


def test_a_shadow_is_scored_by_the_labels_of_the_same_requests(
    month: Month, found: Monitoring
) -> None:
    known = month.sql.execute(
        "select event_timestamp, server_id, request_id, y from outcome.outcome_y "
        "order by event_timestamp limit 100"
    ).fetchall()
    rows = []
    shadow = {"model_version": "2", "answered_as": "shadow"}
    for (at, server_id, request_id, y), row in zip(
        known, month.rows(month.tables[0].slice(0, 100), START, **shadow), strict=True
    ):
        same = {"served_at": at + timedelta(seconds=1), "server_id": server_id}
        same |= {"request_id": request_id, "probabilities": json.dumps({"0": 1 - y, "1": y})}
        rows.append(list((dict(zip(LOGGED, row, strict=True)) | same).values()))
    write(month.settings, rows)
    shown = monitor(month.settings, month.path, START.isoformat())
    [score] = [score for score in shown.quality.scores if score.is_shadow]
    assert (score.shown_as, score.rows) == ("2 (shadow)", 100)
    assert score.interval is not None
    assert score.interval.value == 1.0
    assert {day.version for day in shown.versions} == {"1"}
    assert shown.quality.labelled == found.quality.labelled
    tested = {each.shown_as: shown.on_test_rows(each) for each in shown.quality.scores}
    assert tested == {"1": shown.test_scores["roc_auc"], "2 (shadow)": None}


def test_rows_that_are_not_due_are_counted(month: Month) -> None:
    now = datetime.now(UTC)
    table = feature_table(12, seed=5)
    write(month.settings, list(month.rows(table.slice(0, 4), now - timedelta(days=30))))
    write(month.settings, list(month.rows(table, now - timedelta(days=2))))
    quality = monitor(month.settings, month.path, "31d").quality
    assert (quality.labelled, quality.not_due, quality.without) == (0, 12, 4)
    [score] = quality.scores
    assert (score.interval, score.reason) == (None, "fewer than 50 rows")
    countries = [each for each in quality.slices if each.name == "activity:country"]
    assert [(each.value, each.not_due, each.without) for each in countries] == [
        ("de", 6, 2),
        ("(null)", 3, 1),
        ("fr", 3, 1),
    ]
    assert {tuple(each.reasons.values()) for each in countries} == {("fewer than 50 rows",)}


def test_another_version_that_answered_is_scored_too(month: Month) -> None:
    at = datetime.now(UTC) - timedelta(days=45)
    rows = month.rows(feature_table(60, seed=8), at, model_version="3", run_id="run3")
    write(month.settings, rows)
    month.add_outcomes(rows)
    write(month.settings, month.rows(feature_table(4, seed=9), at))
    try:
        scores = monitor(month.settings, month.path, "46d").quality.scores
    finally:
        for table in ("outcome.outcome_y", "raw_data.predictions"):
            month.sql.execute(f"delete from {table} where model_version = '3'")
    [other] = [score for score in scores if score.version == "3"]
    assert (other.is_shadow, other.rows) == (False, 60)
    assert other.interval is not None


def test_a_model_of_the_same_number_in_an_earlier_registry_is_not_scored(month: Month) -> None:
    at = datetime.now(UTC) - timedelta(days=55)
    own = month.rows(feature_table(60, seed=8), at)
    earlier = month.rows(feature_table(72, seed=9), at, run_id="of another registry")
    for rows in (own, earlier):
        write(month.settings, rows)
        month.add_outcomes(rows)
    not_due = month.rows(feature_table(8, seed=9), datetime.now(UTC), run_id="of another registry")
    write(month.settings, not_due)
    try:
        quality = monitor(month.settings, month.path, "56d").quality
        [(answers,)] = month.sql.execute(
            "select count(*) from raw_data.predictions where run_id = %s and model_version = '1' "
            "and served_at >= current_date - 57",
            [month.run_id],
        ).fetchall()
    finally:
        ids = [row[LOGGED.index("server_row")] for row in (*own, *earlier, *not_due)]
        for table in ("outcome.outcome_y", "raw_data.predictions"):
            month.sql.execute(f"delete from {table} where server_row = any(%s)", [ids])
    of_window = [score.rows for score in quality.scores if not score.is_shadow and not score.day]
    assert (of_window, quality.labelled) == ([60], 60)
    assert quality.labelled + quality.not_due + quality.without == answers
    countries = [each for each in quality.slices if each.name == "activity:country"]
    assert sum(each.labelled for each in countries) == 60


def test_personal_data_times_and_what_dbt_no_longer_has_are_left_out(month: Month) -> None:
    bundle, table = month.model.bundle, month.tables[0]

    def changed(**of_value: Any) -> Bundle:
        features: list[BundleFeature] = [
            dataclasses.replace(each, **of_value) if each.name == VALUE else each
            for each in bundle.features
        ]
        return dataclasses.replace(bundle, features=tuple(features))

    times = pa.array([START] * table.num_rows, pa.timestamp("us", "UTC"))
    taken = {name: table[name] for name in table.column_names} | {"event_timestamp": times}
    predictions = month.model.score(taken)
    table = table.append_column("user_id", pa.array(range(table.num_rows)))
    for one in (changed(pii=True), changed(dtype="timestamp")):
        columns = monitored_columns(one, table, table, predictions)
        assert [each.name for each in columns] == [
            name for name in (*bundle.row_dtypes, "prediction") if name != VALUE
        ]
    hashed = [dataclasses.replace(key, pii=True) for key in bundle.entity_keys]
    for one in (changed(pii=True), changed(feature="gone")):
        assert set(month.skew(START, one)) == set(month.skew(START)) - {"activity:value"}
    assert month.skew(START, dataclasses.replace(bundle, entity_keys=tuple(hashed))) == {}


def test_null_answers_are_left_out_of_scores_and_of_the_predictions_drift(
    month: Month, found: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = START - timedelta(days=30)
    rows = month.rows(feature_table(80, seed=6), at)
    nothing = {"prediction": None, "probabilities": '{"0": null, "1": null}'}
    nulls = [
        list((dict(zip(LOGGED, row, strict=True)) | nothing).values())
        for row in month.rows(feature_table(40, seed=7), at)
    ]
    write(month.settings, [*rows, *nulls])
    month.add_outcomes(rows)
    month.sql.execute(
        "insert into outcome.outcome_y select 1, served_at, model_name, model_version, prediction, "
        "probabilities, server_id, server_row, request_id, request_row, 1 "
        "from raw_data.predictions where prediction is null"
    )
    window = Window("m", "1", month.run_id, at, at + timedelta(days=1))
    manifest, recipe = load_manifest(month.settings.manifest_path), load_recipe(month.path)
    with open_served_log(month.settings, PREDICTIONS) as reader:
        figures = {f.column: f for f in column_figures(ServedLog(reader, window), found.columns)}
        bundle = month.model.bundle
        quality = live_quality(reader, window, manifest, recipe, bundle, [("1", False)])
        monkeypatch.setattr("runner.monitoring.outcome_rows.MOST_ROWS", 60)
        drawn = live_quality(reader, window, manifest, recipe, bundle, [("1", False)])
    assert (figures["prediction"].rows, figures["prediction"].shares[0]) == (80, 0)
    assert figures["activity:value"].rows == 120
    assert {score.rows for score in quality.scores} == {80}
    assert {score.rows for score in drawn.scores if not score.day} == {60}
    month.sql.execute("delete from outcome.outcome_y where event_timestamp < %s", [START])


def test_the_rarest_values_of_a_slice_are_one_part_and_an_outcome_models_column_is_one(
    month: Month, found: Monitoring
) -> None:
    manifest = load_manifest(month.settings.manifest_path)
    outcome, label = manifest.spines["outcome_y"], month.model.bundle.label
    with open_served_log(month.settings, PREDICTIONS) as reader:
        window = dataclasses.replace(found.window, until=START + timedelta(days=DAYS))
        outcomes = OutcomeRows(reader, window, outcome, label)
        users = outcomes.by_value(SliceColumn("user_id", ("entity_keys", "user_id")))
        labels = outcomes.by_value(SliceColumn("y", ("", "y")))
    assert [each.rows for each in users] == [1] * 20 + [DAYS * ROWS - 20]
    assert users[-1].value == "(others)"
    assert {each.value for each in labels} == {"0", "1"}
    assert sum(each.labelled for each in labels) == DAYS * ROWS
    assert {(each.due, each.rows) for each in labels} == {(None, None)}


def test_an_outcome_model_without_table_or_rows_is_named_with_how_to_build_it(month: Month) -> None:
    with month.sql.transaction():
        month.sql.execute("alter table outcome.outcome_y rename to kept")
    try:
        absent = monitor(month.settings, month.path, START.isoformat()).quality
        month.sql.execute("create table outcome.outcome_y (like outcome.kept)")
        quality = monitor(month.settings, month.path, START.isoformat()).quality
    finally:
        with month.sql.transaction():
            month.sql.execute("drop table if exists outcome.outcome_y")
            month.sql.execute("alter table outcome.kept rename to outcome_y")
    built = "run `dbt build --select stg_serving__predictions+`"
    assert absent.reason == f"dbt has not built outcome_y: {built}"
    assert quality.reason.startswith("outcome_y has no rows though 3,6")
    assert quality.reason.endswith(built)


def test_skew_is_counted_with_its_cause(month: Month) -> None:
    day = START - timedelta(days=20)
    rows = [dict(zip(LOGGED, row, strict=True)) for row in month.rows(feature_table(12), day)]
    for i, row in enumerate(rows):
        user, features = json.loads(row["entity_keys"])["user_id"], json.loads(row["features"])
        other = features | {VALUE: 77.0}
        month.add_mart_row(user, row["served_at"] - timedelta(hours=2), features)
        if i == 4:  # a newer row than any that was read
            month.add_mart_row(user, row["served_at"] - timedelta(minutes=1), other)
        if i == 5:  # an older one than those that others read: it was not there yet
            row["features"] = json.dumps(dict.fromkeys(features))
            row["event_times"] = json.dumps({"activity": None})
            row["statuses"] = json.dumps(dict.fromkeys(features, "missing"))
            month.sql.execute(
                "update feature_mart.activity set event_timestamp = %s where user_id = %s",
                [row["served_at"] - timedelta(days=1), user],
            )
        if i in {6, 7, 8, 9}:
            row["features"] = json.dumps(other | {VALUE: None} if i == 8 else other)
            statuses = {6: "overridden", 8: "expired", 9: "changed"}
            row["statuses"] = json.dumps({VALUE: statuses[i]} if i in statuses else {})
    write(month.settings, [list(row.values()) for row in rows])
    skew = month.skew(day)
    value = skew["activity:value"]
    assert value.compared == 12
    assert value.causes == {
        "not yet materialized": 1,
        "late row": 1,
        "override": 1,
        "unexplained": 1,
        "expired": 1,
        "changed definition": 1,
    }
    assert value.share == 5 / 12
    assert skew["activity:country"].causes == {"late row": 1}


def test_broken_limits_are_one_error_that_names_column_value_and_limit(
    month: Month, found: Monitoring
) -> None:
    require_within_limits(found)  # the recipe has none
    text = month.path.read_text()
    path = month.path.with_name("limited.yaml")
    limits = "max_drift: 0.6, min_scores: {roc_auc: 0.9}, max_age: 1h, max_missing: 0.9"
    path.write_text(f"{text}monitor: {{{limits}, max_skew: 0.5}}\n")
    with pytest.raises(CombinedError) as caught:
        require_within_limits(dataclasses.replace(found, recipe=load_recipe(path)))
    message = caught.value.message
    assert "monitor.max_drift: activity:value has drifted by " in message
    assert "(first on 2026-03-13), the limit is 0.6" in message
    assert "monitor.max_age: the rows of activity were 2h old on 2026-03-30, on average" in message
    assert "monitor.min_scores: live roc_auc is 0." in message
    assert "monitor.max_skew: activity:" in message  # dbt has no row of these users
    assert "max_missing" not in message
    assert "max_age: run `runner materialize`, and dbt before it; " in caught.value.hint
    assert "runner check" not in caught.value.hint  # the recipe is right


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("max_drift: 0.6", r"activity:value has drifted by [01]\.\d+ .*, the limit is 0\.6"),
        ("min_scores: {roc_auc: 0.9}", r"live roc_auc is 0\.\d+ .*, the limit is 0\.9"),
        ("max_missing: 0.2", r"activity:value is missing or expired in 25\.0% .*, the limit is 20"),
        ("max_age: 1h", r"the rows of activity were 2h old on .*; the limit is 1h"),
        ("max_skew: 0.5", r"activity:value differs from .* in \d+\.\d% of .*, the limit is 50"),
    ],
)
def test_each_limit_that_is_broken_alone_is_one_error_line(
    found: Monitoring, capsys: pytest.CaptureFixture[str], limit: str, told: str
) -> None:
    figures = [
        dataclasses.replace(each, statuses={"missing": 0.2, "expired": 0.05})
        if each.column == "activity:value"
        else each
        for each in found.figures
    ]
    path = found.recipe.source.path.with_name("one.yaml")
    path.write_text(f"{found.recipe.source.path.read_text()}monitor: {{{limit}}}\n")
    with pytest.raises(RunnerError) as caught:
        require_within_limits(dataclasses.replace(found, recipe=load_recipe(path), figures=figures))
    console.failure(caught.value)
    [error, hint] = capsys.readouterr().err.splitlines()
    assert re.match("error: .*one.yaml:", error)
    assert re.search(told, error)
    assert set(re.findall(r"monitor\.(\w+)", error)) == {limit.partition(":")[0]}
    assert hint.startswith("hint: ")


def test_a_broken_limit_ends_the_command_with_1_after_the_figures(
    month: Month, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = month.path.with_name("ended.yaml")
    path.write_text(f"{month.path.read_text()}monitor: {{max_age: 1h, compare_by: weekday}}\n")
    monkeypatch.setattr("runner.cli.served_commands.load_settings", lambda _: month.settings)
    asked = ["monitor", str(path), "--since", START.isoformat(), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    figures = json.loads(done.stdout)
    told = "all training rows, and not tested: "  # there are few of a weekday
    assert figures["compared_with"].startswith(told)
    assert {each["view"] for each in figures["ages"]} == {"activity"}
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the rows of activity were 2h old" in errors[0]
    [broken] = figures["broken_limits"]
    assert (broken["key"], broken["name"], broken["limit"]) == ("max_age", "activity", 3600)
    assert broken["value"] == pytest.approx(7200)
    assert broken["message"] in errors[0]


@pytest.mark.parametrize("known_days", [0, 10])
def test_days_of_a_month_that_the_training_rows_lack_are_said_to_be_untested(
    found: Monitoring, capsys: pytest.CaptureFixture[str], known_days: int
) -> None:
    path = found.recipe.source.path.with_name("monthly.yaml")
    limits = "monitor: {max_drift: 0.6, compare_by: month}\n"
    path.write_text(f"{found.recipe.source.path.read_text()}{limits}")
    known = sorted({each.day for each in found.figures if each.day})[:known_days]
    lack, march = "no training rows of March", (Lack("March", has_rows=False),)
    figures = [
        each if each.day in known else dataclasses.replace(each, p_value=None, lacks=march)
        for each in found.figures
    ]
    monthly = dataclasses.replace(found, recipe=load_recipe(path), figures=figures)
    told = f"each day is compared with all training rows, and not tested: {lack}"
    if known:
        told = (
            f"each day is compared with the training rows of the same month; {lack}: compared "
            "with all, and neither these days nor the window are tested"
        )
    show_monitoring(monthly, as_json=False)
    shown = capsys.readouterr().out
    assert f"drift: {told}" in shown
    assert "too few entities" not in shown
    line = next(li for li in shown.splitlines() if li.startswith("activity:orders_7d"))
    assert line.rstrip().endswith(f"0 of {known_days}" if known else lack)
    assert told.removeprefix("each day ") in monitoring_page(monthly, [])
    assert monthly.record["compared_with"] == told.removeprefix("each day is compared with ")
    require_within_limits(monthly)
    warned = capsys.readouterr().err
    assert ("max_drift is not checked for activity:" in warned) != bool(known)
    assert warned.rstrip().endswith(f": {lack}") != bool(known)


def test_a_limit_of_which_nothing_is_known_is_warned_of(
    found: Monitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    path = found.recipe.source.path.with_name("unknown.yaml")
    limits = "monitor: {max_drift: 0.1, max_age: 1h}\n"
    path.write_text(f"{found.recipe.source.path.read_text()}{limits}")
    few = [dataclasses.replace(each, p_value=None) for each in found.figures]
    require_within_limits(
        dataclasses.replace(found, recipe=load_recipe(path), figures=few, ages={})
    )
    told = capsys.readouterr().err
    assert "max_drift is not checked for activity:orders_7d, activity:value, " in told
    assert "max_age is not checked for activity: no row was read" in told


def test_a_recipe_with_another_label_than_the_champions_has_no_live_quality(month: Month) -> None:
    """It was edited, and not trained since."""
    recipe = load_recipe(month.path)
    found = monitor(month.settings, month.path, START.isoformat())
    assert found.quality.reason == ""
    with open_served_log(month.settings, PREDICTIONS) as reader:
        bundle = load_version(month.settings, "models:/m/1")[0].bundle
        manifest = load_manifest(month.settings.manifest_path)
        edited = recipe.model_copy(update={"label": "z"})
        quality = live_quality(reader, found.window, manifest, edited, bundle, [("1", False)])
    assert quality == LiveQuality(reason="the champion predicts y, the recipe z")


def test_a_window_begins_at_midnight_though_the_champion_was_promoted_later(month: Month) -> None:
    """It may have answered before, and been restored that day: the day's figures are replaced."""
    begun = find_champion(open_reader(month.settings), "m").since
    write(month.settings, month.rows(feature_table(4, seed=9), begun, server_id="today"))
    try:
        window = monitor(month.settings, month.path).window
    finally:
        month.sql.execute("delete from raw_data.predictions where server_id = 'today'")
    assert window.since == begun.replace(hour=0, minute=0, second=0, microsecond=0)


def test_a_least_score_that_cannot_be_checked_is_warned_of(
    found: Monitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    path = found.recipe.source.path.with_name("least.yaml")
    path.write_text(
        f"{found.recipe.source.path.read_text()}monitor: {{min_scores: {{roc_auc: 0}}}}\n"
    )
    limited = dataclasses.replace(found, recipe=load_recipe(path))
    require_within_limits(limited)
    assert "not checked" not in capsys.readouterr().err
    few = [
        dataclasses.replace(score, interval=None, reason="fewer than 50 rows")
        for score in found.quality.scores
    ]
    for quality, told in (
        (dataclasses.replace(found.quality, scores=tuple(few)), "roc_auc (fewer than 50 rows)"),
        (LiveQuality(reason="dbt has no outcome model"), "roc_auc: dbt has no outcome model"),
    ):
        require_within_limits(dataclasses.replace(limited, quality=quality))
        assert f"min_scores is not checked for {told}" in capsys.readouterr().err


def test_figures_are_in_the_warehouse_once_and_a_report_is_in_mlflow(
    month: Month, found: Monitoring
) -> None:
    for _ in range(2):
        run_id = keep(month.settings, found)
    figures = month.sql.execute(
        "select kind, count(*), count(distinct (day, name)) from monitoring.figures group by 1"
    ).fetchall()
    assert sorted(figures) == [
        ("age", DAYS, DAYS),
        ("drift", DAYS * 5, DAYS * 5),
        ("missing", DAYS * 4, DAYS * 4),
        ("rows", DAYS, DAYS),
        ("score", DAYS, DAYS),
        ("slice_score", DAYS * 2, DAYS * 2),
    ]
    gone = (START - timedelta(days=1)).date()
    month.sql.execute("update monitoring.figures set day = %s where kind = 'age'", [gone])
    earlier = dataclasses.replace(found.window, since=START - timedelta(days=9))
    keep(month.settings, dataclasses.replace(found, window=earlier))
    count = "select count(*) from monitoring.figures where kind = 'age'"
    assert month.sql.execute(count).fetchall() == [(2 * DAYS,)]  # of days whose log is gone
    client = registry.connect(month.settings)
    run = client.get_run(run_id)
    assert run.data.tags["mlflow.parentRunId"] == month.run_id
    assert run.data.tags["monitored_version"] == "1"
    assert len(client.get_metric_history(run_id, "drift.activity_value")) == DAYS
    files = {each.path for each in client.list_artifacts(run_id)}
    drawn = {"distributions.svg", "drift.svg", "missing.svg", "live_roc_auc.svg"}
    drawn |= {"reliability.svg"}
    assert files == drawn | {"monitoring.json", "report.html"}
    report = Path(client.download_artifacts(run_id, "report.html")).read_text()
    assert report.count("<svg") == len(drawn)
    assert "<td>activity:is_member</td><td>false</td>" in report


def test_every_status_is_in_the_report_and_in_the_warehouse(
    found: Monitoring, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [
        dataclasses.replace(each, statuses={"null": 0.25, "overridden": 0.001})
        if each.column == "activity:value"
        else each
        for each in found.figures
    ]
    changed = dataclasses.replace(found, figures=figures)
    show_monitoring(changed, as_json=False)
    assert "25.0% null, 0.1% overridden" in capsys.readouterr().out
    assert "25.0% null, 0.1% overridden" in monitoring_page(changed, [])
    rows = [row for row in changed.rows() if row.kind == "status"]
    assert {(row.name, row.value) for row in rows} == {
        ("activity:value null", 0.25),
        ("activity:value overridden", 0.001),
    }
    assert len({row.day for row in rows}) == DAYS


def test_pictures_show_names_as_they_are_and_whole_days(found: Monitoring) -> None:
    names = CategoryBins((r"$\price$", "$a^"))
    country = next(each for each in found.columns if each.shown_as == "activity:country")
    odd = dataclasses.replace(country, bins=names, reference=Sample(np.ones(4), 4))
    drawn = pictures(
        dataclasses.replace(
            found,
            columns=[odd if each is country else each for each in found.columns],
            figures=[
                dataclasses.replace(each, shares=(0.25,) * 4, expected=(0.25,) * 4)
                if each.column == "activity:country"
                else each
                for each in found.figures
            ],
        )
    )
    svg = {name: text for name, _, text in drawn}
    assert r"$\price$" in svg["distributions"]
    assert ">2026-03-01<" in svg["drift"]
    assert ">2026-03-01<" in svg["live_roc_auc"]


def test_no_row_of_the_champion_is_an_error(month: Month) -> None:
    with pytest.raises(RunnerError, match="no row that m version 1 answered since") as caught:
        monitor(month.settings, month.path, "2030-01-01")
    assert "`runner collect`" in caught.value.hint
    with pytest.raises(RunnerError, match="--since 'soon' is neither a duration nor a time"):
        monitor(month.settings, month.path, "soon")
    for early in ("0001-01-01T00:00:00+01:00", "9999999d"):
        with pytest.raises(RunnerError, match="begins too early"):
            monitor(month.settings, month.path, early)
