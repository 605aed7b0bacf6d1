"""`runner monitor` on BigQuery finds what it finds on PostgreSQL, of the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.cloud import bigquery

from runner.collecting.served_rows import PREDICTIONS
from runner.monitoring.bins import bins_of
from runner.monitoring.column_figures import column_figures
from runner.monitoring.drift import Sample
from runner.monitoring.monitored import PREDICTION, Monitored
from runner.monitoring.served_log import ServedLog, Window
from runner.settings import PostgresAddress, Settings
from runner.warehouse.figures_table import FiguredDays, FigureRow
from runner.warehouse.open_collected import open_figures, open_served_log
from tests.answered_rows import MODEL, RUN, answered, write
from tests.modelling import feature_table

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(300)]

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
        statuses = {"activity__value": "missing"} if day else {}
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
    assert [each.represented for each in cloud[0]] == [120, 60]
    assert len(cloud[3]) == 3 * 5
    assert cloud[0] == local[0]
    assert cloud[1] == {key: pytest.approx(age) for key, age in local[1].items()}
    assert [row[0] for row in cloud[2]] == [row[0] for row in local[2]]
    for mine, theirs in zip(cloud[3], local[3], strict=True):
        assert (mine.column, mine.day, mine.missing) == (theirs.column, theirs.day, theirs.missing)
        assert (mine.drift, mine.p_value) == pytest.approx((theirs.drift, theirs.p_value))
    assert np.allclose(np.concatenate(cloud[4]), np.concatenate(local[4]))


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
