"""The serving log's rows as rows of the table `predictions`; see docs/serving-log.md."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from contract.log_format import (
    FIELD,
    STATUS_NAMES,
    LogEntry,
    LoggedRow,
    LogSchema,
    schemas_key,
    stream_key,
)
from contract.view_layout import PRESENT
from runner.collecting.log_stream import Entry
from runner.online.connection import OnlineConnection
from runner.online.full_redis import write_though_full
from runner.warehouse.collected_table import CollectedColumn, CollectedRow, CollectedTable

PREDICTIONS = CollectedTable(
    "predictions",
    (
        CollectedColumn("served_at", "timestamp", required=True),
        CollectedColumn("server_id", "text", required=True),
        CollectedColumn("server_row", "bigint", required=True),
        CollectedColumn("request_id", "text", required=True),
        CollectedColumn("request_row", "bigint", required=True),
        CollectedColumn("model_name", "text"),
        CollectedColumn("model_version", "text", required=True),
        CollectedColumn("run_id", "text"),
        CollectedColumn("bundle_sha256", "text", required=True),
        CollectedColumn("label", "text"),
        CollectedColumn("entity_keys", "json", required=True),
        CollectedColumn("features", "json", required=True),
        CollectedColumn("statuses", "json", required=True),
        CollectedColumn("event_times", "json", required=True),
        CollectedColumn("definitions", "json", required=True),
        CollectedColumn("prediction", "text"),
        CollectedColumn("probabilities", "json"),
        CollectedColumn("decision_threshold", "float"),
        CollectedColumn("log_share", "float", required=True),
        CollectedColumn("answered_as", "text", required=True),
    ),
    key=("served_at", "server_id", "server_row"),
    day="served_at",
)
_REQUEST = "request"
_KNOWN_SECONDS = 90 * 86_400


def logged_keys(connection: OnlineConnection, project: str) -> list[str]:
    """Return the entity keys of every model that has had rows in the project's log."""
    schemas = connection.client.hvals(schemas_key(project))
    return sorted({key for schema in schemas for key in LogSchema.parse(schema).keys})


class ServedRows:
    """Reads the entries of one project's log, and counts the rows that never came.

    Attributes
    ----------
    lost
        Rows that servers had numbered and that were trimmed, or never confirmed, before they were
        collected.
    foreign
        Entries that no server of this version wrote.
    """

    def __init__(self, connection: OnlineConnection, project: str) -> None:
        self._connection = connection
        self._client = connection.client
        self._schemas_key = schemas_key(project)
        self._stream_key = stream_key(project)
        self._schemas: dict[str, LogSchema | None] = {}
        self._following: dict[str, int] = {}
        self.lost = 0
        self.foreign = 0

    def rows(self, entry: Entry) -> list[CollectedRow]:
        """Return an entry's rows; none where it is not one of a serving log."""
        parsed = LogEntry.parse(entry[1].get(FIELD, b""))
        if parsed is None:
            self.foreign += 1
            return []
        rows = [
            _row(parsed, number, self._schema(parsed.bundle), moment, request_id, row)
            for number, (moment, request_id, row) in enumerate(_each(parsed), parsed.first)
        ]
        self.lost += max(0, parsed.first - self._expected(parsed.server))
        self._following[parsed.server] = parsed.first + len(rows)
        return rows

    def committed(self) -> None:
        """Remember which rows to expect next; those that were read are in the table."""
        for server, number in self._following.items():
            key, keep = self._next_key(server), ("EX", _KNOWN_SECONDS)
            write_though_full(self._connection, "SET", key, number, *keep)

    def _expected(self, server: str) -> int:
        if server not in self._following:
            self._following[server] = int(self._client.get(self._next_key(server)) or 1)
        return self._following[server]

    def _next_key(self, server: str) -> bytes:
        return self._stream_key + b":next:" + server.encode()

    def _schema(self, bundle: str) -> LogSchema | None:
        if bundle not in self._schemas:
            content = self._client.hget(self._schemas_key, bundle)
            self._schemas[bundle] = LogSchema.parse(content) if content else None
        return self._schemas[bundle]


def _each(entry: LogEntry) -> list[tuple[float, str, LoggedRow]]:
    return [(moment, request, row) for moment, request, rows in entry.answers for row in rows]


def _row(
    entry: LogEntry,
    number: int,
    schema: LogSchema | None,
    moment: float,
    request_id: str,
    row: LoggedRow,
) -> CollectedRow:
    """Return one row; where the schema is gone, its lists stay without names."""
    position, keys, values, statuses, times, prediction, probabilities = row
    instants = [None if time is None else _instant(time).isoformat() for time in times]
    columns = (*schema.features, *schema.request) if schema else ()
    return (
        _instant(moment),
        entry.server,
        number,
        request_id,
        position,
        schema.model if schema else None,
        entry.version,
        schema.run_id if schema else None,
        entry.bundle,
        schema.label if schema else None,
        _json(dict(zip(schema.keys, keys, strict=True)) if schema else keys),
        _json(dict(zip(columns, values, strict=True)) if schema else values),
        _json(_statuses(schema, statuses) if schema else statuses),
        _json(dict(zip(schema.views, instants, strict=True)) if schema else instants),
        _json(schema.definitions if schema else {}),
        None if prediction is None else str(prediction),
        None if probabilities is None else _json(_named(schema, probabilities)),
        schema.threshold if schema else None,
        entry.share,
        "shadow" if entry.is_shadow else "answer",
    )


def _statuses(schema: LogSchema, letters: str | None) -> dict[str, str]:
    """Return the status of each column that is not `present`."""
    names = dict.fromkeys(schema.request, _REQUEST)
    for feature, letter in zip(schema.features, letters or "", strict=False):
        if STATUS_NAMES[letter] != PRESENT:
            names[feature] = STATUS_NAMES[letter]
    return names


def _named(schema: LogSchema | None, probabilities: Sequence[float]) -> object:
    return dict(zip(schema.classes, probabilities, strict=True)) if schema else probabilities


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _json(value: object) -> str:
    text = orjson.dumps(value).decode()
    if "\\u0000" in text:  # PostgreSQL's jsonb has no such character
        text = orjson.dumps(_without_nul(value)).decode()
    return text


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(part) for name, part in value.items()}
    return [_without_nul(part) for part in value] if isinstance(value, list) else value
