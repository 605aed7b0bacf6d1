"""`runner monitor` on a real PostgreSQL: a month of answers, with a known break."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from contract.scoring import Model
from runner.commands.monitoring import Monitoring, monitor
from runner.commands.monitoring_report import record, show_monitoring
from runner.errors import RunnerError
from runner.monitoring.drift import Sample, distance
from runner.packaging.served_version import load_version
from runner.records import registry, tracking
from tests.answered_rows import answered, write
from tests.modelling import feature_table, make_recipe
from tests.trainings import changed, train

pytestmark = pytest.mark.servers

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, ROWS, BREAK = 20, 120, 12
VALUE, ORDERS = "activity__value", "activity__orders_7d"


class Month:
    """A project with a champion, and the answers that it gave in a month."""

    def __init__(self, folder: Any, address: Any) -> None:
        (folder / "recipes").mkdir()
        self.path = folder / "recipes" / "m.yaml"
        training = train(folder, make_recipe(self.path))
        env = {f"PG{name.upper()}": str(value) for name, value in address.conninfo.items()}
        env |= {"PGDATABASE": address.database, "REDIS_URL": "redis://127.0.0.1:1/0"}
        env |= training.prepared.settings.env
        object.__setattr__(training.prepared.settings, "env", env)
        self.settings = training.prepared.settings
        client = registry.connect(self.settings)
        artifacts = folder / "artifacts"
        artifacts.mkdir()
        self.run_id, digest = tracking.record(client, changed(training), artifacts)
        tracking.register(client, self.run_id, digest, training)
        registry.promote(client, "m", "1")
        self.model, _ = load_version(self.settings, "models:/m/1")
        self.tables = [self.day(day) for day in range(DAYS)]
        for day, table in enumerate(self.tables):
            write(self.settings, self.rows(table, START + timedelta(days=day)))

    @staticmethod
    def day(number: int) -> pa.Table:
        """Return a day's features: the value's unit changes on one."""
        table = feature_table(ROWS, seed=100 + number)
        if number < BREAK:
            return table
        place = table.column_names.index(VALUE)
        return table.set_column(place, VALUE, pc.multiply(table[VALUE], 100.0))

    def rows(self, table: pa.Table, day: datetime, **changes: Any) -> list[list[Any]]:
        probabilities = answers(self.model, table)
        return list(
            answered(table, day, probabilities=probabilities, **{"run_id": self.run_id} | changes)
        )


def answers(model: Model, table: pa.Table) -> list[float]:
    times = pa.array([START] * table.num_rows, pa.timestamp("us", "UTC"))
    columns = {name: table[name] for name in table.column_names} | {"event_timestamp": times}
    found = model.score(columns).probabilities
    assert found is not None
    return [float(share) for share in found[:, 1]]


@pytest.fixture(scope="module", name="month")
def _month(tmp_path_factory: pytest.TempPathFactory, module_database: Any) -> Month:
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


def test_a_row_of_a_sampled_log_counts_for_those_it_represents(month: Month) -> None:
    later = START + timedelta(days=100)
    table = feature_table(40, seed=5)
    missing = {ORDERS: "missing", VALUE: "null"}
    write(month.settings, month.rows(table, later, log_share=0.25, statuses=missing))
    write(month.settings, month.rows(table.slice(0, 4), later, server_id="s2"))
    found = monitor(month.settings, month.path, later.isoformat())
    [rows] = found.versions
    assert (rows.rows, rows.represented) == (44, 164)
    figures = {each.column: each for each in found.figures if each.day}
    assert figures["activity:orders_7d"].missing == pytest.approx(160 / 164)
    assert figures["activity:value"].missing == 0
    assert figures["activity:value"].p_value is None  # of 44 users nothing is tested


def test_what_is_shown(found: Monitoring, capsys: pytest.CaptureFixture[str]) -> None:
    show_monitoring(found, as_json=False)
    [line] = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("activity:value")
    ]
    assert line.split()[-3:] == [str(DAYS - BREAK), "of", str(DAYS)]
    show_monitoring(found, as_json=True)
    assert json.loads(capsys.readouterr().out) == record(found)


def test_no_row_of_the_champion_is_an_error(month: Month) -> None:
    with pytest.raises(RunnerError, match="no row that m version 1 answered since") as caught:
        monitor(month.settings, month.path, "2030-01-01")
    assert "`runner collect`" in caught.value.hint
    with pytest.raises(RunnerError, match="--since 'soon' is neither a duration nor a time"):
        monitor(month.settings, month.path, "soon")
