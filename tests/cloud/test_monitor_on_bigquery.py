"""`runner monitor` finds the same in the same rows on BigQuery and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from google.cloud import bigquery

from contract.bundle import Bundle, Label
from contract.bundle_reader import read_bundle
from runner.collecting.served_rows import PREDICTIONS
from runner.monitoring.bins import bins_of
from runner.monitoring.column_figures import column_figures
from runner.monitoring.drift import Sample
from runner.monitoring.live_comparison import compare_with_shadow
from runner.monitoring.live_quality import live_quality
from runner.monitoring.live_scores import Judge
from runner.monitoring.monitored import PREDICTION, Monitored
from runner.monitoring.outcome_rows import OutcomeRows
from runner.monitoring.served_log import ServedLog, Window
from runner.monitoring.shadow_days import ShadowDays, ShadowVersion, shadow_days
from runner.project.manifest import Manifest, OutcomeOf, Spine
from runner.settings import PostgresAddress, Settings
from runner.warehouse.figures_table import FiguredDays, FigureRow
from runner.warehouse.open_collected import open_figures, open_served_log
from tests.answered_rows import MODEL, RUN, answered, write
from tests.modelling import SPINE, feature_table, make_recipe
from tests.serving_bundles import write_linear_bundle

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(300)]
ANSWERED = [("1", False), ("2", True)]

START = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = Window(MODEL, "1", RUN, START, START + timedelta(days=2))
ODD = 'it\'s \\ "odd"\n%s'


@pytest.fixture(name="targets")
def _targets(
    tmp_path: Path, client: bigquery.Client, database: PostgresAddress
) -> Iterator[list[Settings]]:
    """The settings of both targets."""
    local = {f"PG{name.upper()}": str(value) for name, value in database.conninfo.items()}
    local |= {"PGDATABASE": database.database}
    cloud = Settings("cloud", tmp_path, {"GOOGLE_CLOUD_PROJECT": client.project})
    yield [Settings("local", tmp_path, local), cloud]
    client.delete_table("raw_events.predictions", not_found_ok=True)
    client.delete_table("monitoring.figures", not_found_ok=True)


def odd(table: pa.Table) -> pa.Table:
    """Return the features with a text that SQL must quote well."""
    place = table.column_names.index("activity__country")
    texts = [ODD if text == "fr" else text for text in table["activity__country"].to_pylist()]
    return table.set_column(place, "activity__country", pa.array(texts))


def columns() -> list[Monitored]:
    trained = odd(feature_table())
    found = []
    for name in trained.column_names:
        values = trained[name]
        dtype = {"bool": "bool", "string": "string"}.get(str(values.type), "float64")
        bins = bins_of(values, dtype)
        counts = np.bincount(bins.numbers(values), minlength=len(bins.labels)).astype(np.float64)
        sample = Sample(counts, float(trained.num_rows))
        found.append(
            Monitored(name, name, ("features", name), ("user_id",), bins, sample, is_feature=True)
        )
    shares = pa.chunked_array([pa.array(np.linspace(0, 1, 101))])
    bins = bins_of(shares, "float64")
    answers = replace(found[0], name=PREDICTION, place=("probabilities", "1"), is_feature=False)
    counts = np.bincount(bins.numbers(shares), minlength=len(bins.labels)).astype(np.float64)
    return [*found, replace(answers, shown_as=PREDICTION, bins=bins, reference=Sample(counts, 101))]


def test_both_warehouses_count_the_same(targets: list[Settings]) -> None:
    rows: list[Any] = []
    for day in range(2):
        table = odd(feature_table(60, seed=day))
        when = START + timedelta(days=day)
        statuses = {"activity__value": "missing", "activity__country": "overridden"} if day else {}
        shares = [i / 60 for i in range(60)]
        rows += answered(
            table, when, probabilities=shares, statuses=statuses, log_share=0.5 + day / 2
        )
    found = []
    for settings in targets:
        write(settings, rows)
        with open_served_log(settings, PREDICTIONS) as reader:
            log = ServedLog(reader, WINDOW)
            figures = [replace(each, shares=()) for each in column_figures(log, columns())]
            shares = [each.shares for each in column_figures(log, columns())]
            found.append((log.versions(), log.ages(["activity"]), log.sample(7), figures, shares))
    local, cloud = found
    assert [each.rows for each in cloud[0]] == [60, 60]
    assert len(cloud[3]) == 3 * 5
    assert {
        each.column: each.statuses
        for each in cloud[3]
        if each.day == "2026-03-02" and each.column.endswith("country")
    } == {"activity__country": {"overridden": 1.0}}
    assert cloud[0] == local[0]
    assert cloud[1] == {key: pytest.approx(age) for key, age in local[1].items()}
    assert [row[0] for row in cloud[2]] == [row[0] for row in local[2]]
    for mine, theirs in zip(cloud[3], local[3], strict=True):
        assert (mine.column, mine.day, mine.missing) == (theirs.column, theirs.day, theirs.missing)
        assert mine.statuses == theirs.statuses
        assert (mine.drift, mine.p_value) == pytest.approx((theirs.drift, theirs.p_value))
    assert np.allclose(np.concatenate(cloud[4]), np.concatenate(local[4]))


def outcome(settings: Settings) -> Spine:
    """Return what dbt says of the outcome model in the warehouse of a target."""
    cloud = settings.target == "cloud"
    database = settings.env["GOOGLE_CLOUD_PROJECT" if cloud else "PGDATABASE"]
    return replace(
        SPINE,
        name="outcome_y",
        database=database,
        schema="outcome",
        alias="outcome_y",
        labels={"y": timedelta(days=1)},
        outcome=OutcomeOf("spine_y", "y"),
        adapter_type="bigquery" if cloud else "postgres",
    )


def labelled(kinds: tuple[str, str, str, str], value: str) -> str:
    """Return SQL that makes the outcome model's table of 60 rows; `value`: of its JSON."""
    text, integer, timestamp, json = kinds
    names = (
        f"user_id {integer}, event_timestamp {timestamp}, model_name {text}, "
        f"model_version {text}, prediction {text}, probabilities {json}, server_id {text}, "
        f"server_row {integer}, request_id {text}, request_row {integer}, y {integer}"
    )
    rows = ", ".join(
        f"({i}, '2026-03-01 0{i % 10}:00:00+00', '{MODEL}', '1', '{i % 2}', "
        f"{value % (1 - i / 60, i / 60)}, 's1', {i}, 'asked{i}', 0, {int(i * 7 % 60 > 25)})"
        for i in range(60)
    )
    return f"create table outcome.outcome_y ({names}); insert into outcome.outcome_y values {rows}"


def served() -> list[list[Any]]:
    """Return 80 rows that version 1 answered; 60 of them are those of the outcome model."""
    names = [column.name for column in PREDICTIONS.columns]
    rows = [dict(zip(names, row, strict=True)) for row in answered(feature_table(80), START)]
    for i, row in enumerate(rows[:60]):
        row |= {"served_at": START + timedelta(hours=i % 10), "server_row": i}
    return [list(row.values()) for row in rows]


def served_bundle(folder: Path) -> Bundle:
    """Return the bundle of a model of y that takes `activity:country`."""
    bundle = read_bundle(folder, write_linear_bundle(folder))
    country = replace(bundle.features[0], name="activity__country")
    return replace(bundle, features=(country,), label=Label("y", classes=(0, 1)))


def shadows() -> list[list[Any]]:
    """Return the rows that version 2 answered as a shadow, to the outcome model's requests."""
    names = [column.name for column in PREDICTIONS.columns]
    shares = [i / 60 for i in reversed(range(60))]
    changes = {"model_version": "2", "answered_as": "shadow"}
    rows = []
    for i, row in enumerate(answered(feature_table(60), START, probabilities=shares, **changes)):
        asked = {"served_at": START + timedelta(hours=i % 10, seconds=1), "request_id": f"asked{i}"}
        rows.append(list((dict(zip(names, row, strict=True)) | asked).values()))
    return rows


def test_both_warehouses_score_the_same(
    targets: list[Settings], client: bigquery.Client, tmp_path: Path
) -> None:
    kinds = ("text", "bigint", "timestamptz", "jsonb")
    json = """'{"0": %s, "1": %s}'"""
    with psycopg.connect(**targets[0].postgres.conninfo, autocommit=True) as sql:
        sql.execute(f"create schema outcome; {labelled(kinds, json)}".encode())
    client.create_dataset("outcome", exists_ok=True)
    kinds = ("string", "int64", "timestamp", "json")
    for statement in labelled(kinds, f"parse_json({json})").split("; "):
        client.query(statement).result()
    recipe = make_recipe(tmp_path / "m.yaml", more="slices: ['activity:country', user_id, y]\n")
    rows, bundle = [*served(), *shadows()], served_bundle(tmp_path / "bundle")
    found, beside = [], []
    for settings in targets:
        write(settings, rows)
        manifest = Manifest(tmp_path, "shop", {}, {"outcome_y": outcome(settings)}, "")
        with open_served_log(settings, PREDICTIONS) as reader:
            found.append(live_quality(reader, WINDOW, manifest, recipe, bundle, ANSWERED))
            outcomes = OutcomeRows(reader, WINDOW, outcome(settings), bundle.label)
            judge = Judge(recipe, bundle.label)
            shadow = ShadowVersion(MODEL, "2", RUN, recipe, bundle.label, START)
            days = shadow_days(reader, shadow)
            beside.append((compare_with_shadow(judge, outcomes, "1", "2"), days))
    client.delete_table("outcome.outcome_y")
    assert found[0] == found[1]
    assert beside[0] == beside[1]
    assert beside[0][0].difference is not None
    assert beside[0][1] == ShadowDays(1, 60, date(2026, 3, 1))
    assert (found[1].labelled, found[1].without, found[1].reason) == (60, 20, "")
    assert {(score.shown_as, score.rows) for score in found[1].scores if not score.day} == {
        ("1", 60),
        ("2 (shadow)", 60),
    }
    assert all(score.interval for score in found[1].scores)
    assert sum(each.rows for each in found[1].reliability) == 60
    slices = [(each.name, each.value, each.labelled, each.without) for each in found[1].slices]
    assert slices[:3] == [
        ("activity:country", "de", 30, 10),
        ("activity:country", "(null)", 15, 5),
        ("activity:country", "fr", 15, 5),
    ]
    assert len(slices) == 3 + 21 + 2
    assert slices[-1] == ("y", "0", 26, None)


def test_figures_of_a_day_are_replaced(targets: list[Settings], client: bigquery.Client) -> None:
    days = [date(2026, 3, 1), date(2026, 3, 2)]
    with open_figures(targets[1]) as store:
        first = [FigureRow(day, "drift", "a", 0.1) for day in days]
        store.replace(FiguredDays("m", "1", *days), first)
        store.replace(FiguredDays("m", "2", *days), first)
        again = [FigureRow(days[1], "drift", "a", 0.2, p_value=0.5, answered_rows=3)]
        store.replace(FiguredDays("m", "1", days[1], days[1]), again)
    query = "select model_version, day, value from monitoring.figures order by 1, 2"
    assert [tuple(row.values()) for row in client.query(query).result()] == [
        ("1", days[0], 0.1),
        ("1", days[1], 0.2),
        ("2", days[0], 0.1),
        ("2", days[1], 0.1),
    ]
    left = {table.table_id for table in client.list_tables("monitoring")}
    assert left == {"figures"}
