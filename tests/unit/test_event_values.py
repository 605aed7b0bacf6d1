"""What a table takes as an event, and how its dbt source says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.event_format import EventEntry, EventTable
from contract.event_values import BadEventError, EventReader
from runner.commands.served.serving_launch import serve
from runner.errors import RunnerError
from runner.project.event_sources import event_tables
from runner.settings import Settings
from tests.event_project import COLUMNS, click, declare, source_manifest


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    return Settings(target="local", root=tmp_path, env={})


@pytest.fixture(name="table")
def _table(settings: Settings) -> EventTable:
    declare(settings)
    (table,) = event_tables(settings.manifest_path)
    return table


def test_a_source_with_event_id_takes_events_of_its_columns(table: EventTable) -> None:
    assert (table.name, table.schema, table.relation) == ("clicks", "raw_data", "clicks")
    assert [column.name for column in table.columns] == list(COLUMNS)
    assert [column.name for column in table.columns if column.required] == ["user_id"]
    assert EventTable.parse(table.dump()) == table
    assert EventTable.parse(b'{"format": 2}') is None


def test_other_sources_take_none(settings: Settings) -> None:
    declare(settings, source_manifest(event_id=None))
    assert event_tables(settings.manifest_path) == []


def test_the_columns_that_the_runner_fills_are_not_taken_from_clients(settings: Settings) -> None:
    columns = COLUMNS | {"received_at": "timestamptz", "collected_at": "timestamptz"}
    declare(settings, source_manifest(columns))
    (table,) = event_tables(settings.manifest_path)
    assert [column.name for column in table.columns] == list(COLUMNS)


@pytest.mark.parametrize(
    ("columns", "meta", "message"),
    [
        ({}, {"event_id": "id"}, r"sources.yml:4: web.clicks: event_id: 'id' is not one of"),
        ({"user_id": "point"}, {}, r"sources.yml:9: web.clicks: user_id: data_type point; known"),
        ({"click_id": "float"}, {}, r"sources.yml:7: web.clicks: event_id: click_id is float64"),
    ],
)
def test_a_source_that_cannot_take_events_is_refused_with_its_line(
    settings: Settings, columns: dict[str, str], meta: dict[str, Any], message: str
) -> None:
    declare(settings, source_manifest(COLUMNS | columns, **meta))
    with pytest.raises(RunnerError, match=message):
        event_tables(settings.manifest_path)


def test_a_server_starts_though_a_source_is_declared_wrong(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(settings, source_manifest(COLUMNS | {"user_id": "point"}))
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr("os.execve", lambda *given: started.append(given))
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    serve(replace(settings, env=env), "shop", None, None)
    assert len(started) == 1
    assert "user_id: data_type point" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("adapter", "kind", "digits"),
    [
        ("bigquery", "bignumeric", None),
        ("bigquery", "bignumeric(50, 20)", (29, 9)),
        ("bigquery", "numeric(38, 20)", (18, 9)),
        ("bigquery", "numeric(8, 2)", (6, 2)),
        ("postgres", "numeric(50, 20)", (30, 20)),
    ],
)
def test_a_number_has_no_more_digits_than_the_table_that_is_created(
    settings: Settings, adapter: str, kind: str, digits: tuple[int, int] | None
) -> None:
    manifest = source_manifest(COLUMNS | {"price": kind})
    manifest["metadata"]["adapter_type"] = adapter
    declare(settings, manifest)
    (table,) = event_tables(settings.manifest_path)
    assert [column.digits for column in table.columns if column.name == "price"] == [digits]


def test_two_sources_with_one_name_are_refused(settings: Settings) -> None:
    manifest = source_manifest()
    manifest["sources"]["source.shop.app.clicks"] = manifest["sources"]["source.shop.web.clicks"]
    declare(settings, manifest)
    with pytest.raises(RunnerError, match="another source has a table of this name"):
        event_tables(settings.manifest_path)


def test_values_keep_what_they_mean(table: EventTable) -> None:
    event = click(
        2**53 + 1,
        price="1234.50",
        is_new=True,
        clicked_at="2026-03-01T13:00:00+01:00",
        day="2026-03-01",
        tags={"a": [1, None]},
        page="home",
    )
    assert EventReader(table).read(event, None) == [
        f"c{2**53 + 1}",
        2**53 + 1,
        "1234.50",
        True,
        "2026-03-01T12:00:00+00:00",
        "2026-03-01",
        {"a": [1, None]},
        "home",
    ]
    assert EventReader(table).read({"user_id": 1}, "k/0")[:3] == ["k/0", 1, None]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (["c1"], "an event must be an object of columns"),
        (click(1, usr=2), "'usr' is not a column of clicks"),
        ({"user_id": 1}, "click_id is missing: without this id, a retry would add the event again"),
        (click(1, click_id="x" * 257), "click_id must be a text of at most 256 characters"),
        ({"click_id": "c1"}, "user_id is missing or null"),
        (click(1, user_id=2**63), "user_id must be a whole number of 64 bits"),
        (click(1, user_id=True), "user_id must be a whole number of 64 bits"),
        (click(1, user_id=1.0), "user_id must be a whole number of 64 bits"),
        (click(1, price="12345.00"), "price must be a number of at most 4 digits before the"),
        (click(1, price=0.125), "price must be a number of at most 4 digits before the point, 2"),
        (click(1, price=0.1 + 0.2), "price must be a text, such as"),
        (click(1, price="١٢.٥"), "price must be a number of at most"),
        (click(1, price="1e3"), "price must be a number of at most"),
        (click(1, is_new=1), "is_new must be true or false"),
        (click(1, clicked_at="2026-03-01T12:00:00"), "clicked_at must be an ISO 8601 time with"),
        (click(1, clicked_at="0001-01-01T00:00:00+14:00"), "clicked_at must be an ISO 8601"),
        (click(1, day="yesterday"), "day must be an ISO 8601 date"),
        (click(1, page="a\0b"), "page must be a text without the character U"),
        (click(1, page="123456789"), "page must be a text of at most 8 characters"),
        (click(1, tags=["\0"]), "tags must be JSON without the character U"),
    ],
)
def test_a_wrong_event_is_refused_with_its_column(
    table: EventTable, event: object, reason: str
) -> None:
    with pytest.raises(BadEventError) as caught:
        EventReader(table).read(event, None)
    assert str(caught.value).startswith(reason)


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 1


def test_json_is_no_deeper_than_an_entry_can_have_it(table: EventTable) -> None:
    reader = EventReader(table)
    row = reader.read(click(1, tags=nested(250)), None)
    assert EventEntry(1.5, reader.columns, [row]).dump()
    for levels in range(252, 256):
        with pytest.raises(BadEventError, match="tags must be JSON of at most 250 levels"):
            reader.read(click(1, tags=nested(levels)), None)


def test_entries_of_another_version_are_none() -> None:
    entry = EventEntry(1.5, ["a"], [[1]])
    assert EventEntry.parse(entry.dump()) == entry
    assert EventEntry.parse(b'[99,"later"]') is None
    assert EventEntry.parse(b"") is None
