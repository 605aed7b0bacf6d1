"""Read an outcome model: each served row whose label is due, with its label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from contract.bundle import Label
from runner.monitoring.labelled_rows import LabelledRows
from runner.monitoring.served_log import ANSWERED, Window
from runner.project.manifest import Spine
from runner.warehouse.log_sql import Cell, LogReader

_SHADOW_SECONDS = 60
"""A shadow answers within this time after the champion; a later row is of another request."""
MOST_ROWS = 100_000
"""If more rows have a label, this many are drawn at random and scored."""
MOST_VALUES = 20
"""So many values of a slice are counted one by one, all others together."""
NULL, OTHERS = "(null)", "(others)"
_SHARED = 3  # day, entity and label, whichever version answered


class SliceColumn(NamedTuple):
    """A slice of the recipe, and where the values of served rows are.

    Attributes
    ----------
    place
        A JSON column of the log and its member; the empty text and a column of the outcome model,
        where the log does not have it.
    """

    name: str
    place: tuple[str, str]

    @property
    def is_logged(self) -> bool:
        """Whether rows without a label have a value too."""
        return bool(self.place[0])


class SliceCount(NamedTuple):
    """How many rows of the champion have a value of a slice.

    Attributes
    ----------
    value
        `(null)` and `(others)` too.
    labelled
        Those that have a label.
    due, rows
        Those that are due for a label, and all of them; None: the log does not have the column.
    """

    value: str
    labelled: int
    due: int | None
    rows: int | None


class OutcomeRows:
    """The rows of an outcome model in a window."""

    def __init__(self, reader: LogReader, window: Window, outcome: Spine, label: Label) -> None:
        self._reader, self._window, self._outcome = reader, window, outcome
        self._label = label

    def count(self) -> int:
        """Return how many rows of the champion have a label."""
        where = self._where("outcome.event_timestamp", self._window.version, "outcome.")
        [[count]] = self._reader.rows(
            f"select count(*) from {self._outcome.path} as outcome where {where}"
        )
        return _whole(count)

    def is_empty(self) -> bool:
        """Return whether dbt has built no row yet, of any model and time."""
        return not self._reader.rows(f"select 1 from {self._outcome.path} limit 1")

    def due(self) -> tuple[int, int]:
        """Return how many of the champion's rows are due for a label, and how many are not."""
        sql = self._reader.sql
        [[due, rows]] = self._reader.rows(
            f"select {self._due('served_at')}, count(*)\nfrom {sql.table}\n"
            f"where {self._where('served_at', self._window.version)} and {ANSWERED}"
        )
        return _whole(due), _whole(rows) - _whole(due)

    def by_value(self, column: SliceColumn) -> list[SliceCount]:
        """Return the champion's rows by the values of a slice, the value of most rows first."""
        sql, version = self._reader.sql, self._window.version
        value = f"coalesce({self._value(column)}, {sql.literal(NULL)}) as slice_value"
        if column.is_logged:
            counted = (
                f"select {value}, {self._due('seen.served_at')} as due_rows, "
                "count(*) as answered_rows, count(outcome.server_id) as labelled_rows\n"
                f"    from (select * from {sql.table} where {ANSWERED}) as seen\n"
                f"    left join {self._outcome.path} as outcome\n    on {self._same_row}\n"
                f"    where {self._where('seen.served_at', version, 'seen.')}"
            )
        else:
            counted = (
                f"select {value}, 0 as due_rows, "
                "count(*) as answered_rows, count(*) as labelled_rows\n"
                f"    from {self._outcome.path} as outcome\n"
                f"    where {self._where('outcome.event_timestamp', version, 'outcome.')}"
            )
        found = self._reader.rows(
            f"with counted as (\n    {counted}\n    group by 1\n),\nranked as (\n"
            "    select slice_value, labelled_rows, due_rows, answered_rows,\n"
            "        row_number() over (order by answered_rows desc, slice_value) as place\n"
            "    from counted\n)\n"
            f"select least(place, {MOST_VALUES + 1}), min(slice_value), "
            "sum(labelled_rows), sum(due_rows), sum(answered_rows)\n"
            "from ranked\ngroup by 1\norder by 1"
        )
        return [_slice_count(column, row) for row in found]

    def rows(self, version: str, slices: Sequence[SliceColumn] = ()) -> LabelledRows:
        """Return the labelled rows of a version, at most `MOST_ROWS`."""
        where = self._where("outcome.event_timestamp", version, "outcome.")
        found = self._drawn(["outcome"], slices, "", where)
        return self._labelled(found, 0, 1, len(slices))

    def shadow_rows(self, version: str) -> LabelledRows:
        """Return a shadow's rows, at most `MOST_ROWS`.

        Their labels are those of the answers that clients got for the same requests.
        """
        where = self._where("outcome.event_timestamp", version, "shadow.")
        found = self._drawn(["shadow"], [], self._shadow_join(), where)
        return self._labelled(found, 0, 1)

    def pairs(self, shadow: str) -> tuple[LabelledRows, LabelledRows]:
        """Return the champion's labelled rows, at most `MOST_ROWS`, and a shadow's of the same."""
        where = self._where("outcome.event_timestamp", self._window.version, "outcome.")
        where += f" and shadow.model_version = {self._reader.sql.literal(shadow)}"
        where += f" and shadow.model_name = {self._reader.sql.literal(self._window.model)}"
        found = self._drawn(["outcome", "shadow"], [], self._shadow_join(), where)
        return self._labelled(found, 0, 2), self._labelled(found, 1, 2)

    def _drawn(
        self, served: Sequence[str], slices: Sequence[SliceColumn], joins: str, where: str
    ) -> Sequence[Sequence[Cell]]:
        """Return day, entity, label, a prediction per `served`, slices, and probabilities."""
        sql = self._reader.sql
        label = f"outcome.{sql.name(self._label.name)}"
        columns = [sql.day("outcome.event_timestamp"), self._entity, sql.text(label)]
        columns += [f"{each}.prediction" for each in served]
        columns += [f"coalesce({self._value(each)}, '{NULL}')" for each in slices]
        columns += [share for each in served for share in self._shares(each)]
        answered = " and ".join(f"{each}.prediction is not null" for each in served)
        by_chance = sql.hash(["outcome.server_id", sql.text("outcome.server_row")])
        source = (
            f"{self._outcome.path} as outcome\n{joins}"
            f"where {where}\n    and {label} is not null and {answered}\n"
            f"order by {by_chance}\nlimit {MOST_ROWS}"
        )
        if any(each.is_logged for each in slices):  # joined to the drawn rows only
            source = (
                f"(\nselect outcome.* from {source}\n) as outcome\n"
                f"left join {sql.table} as seen\n    on {self._same_row}\norder by {by_chance}"
            )
        return self._reader.rows(f"select {', '.join(columns)}\nfrom {source}")

    def _labelled(
        self, found: Sequence[Sequence[Cell]], which: int, versions: int, slices: int = 0
    ) -> LabelledRows:
        """Return the rows of one of the versions that were drawn together."""
        texts = _SHARED + versions + slices
        classes = len(self._label.classes or ())
        first = texts + which * classes
        cells = np.array([[str(cell) for cell in row[:texts]] for row in found], np.str_)
        cells = cells.reshape(len(found), texts)
        shares = np.array([row[first : first + classes] for row in found], np.float64)
        days, entities, labels = cells[:, :_SHARED].T
        return LabelledRows(
            days,
            entities,
            labels,
            cells[:, _SHARED + which],
            shares.reshape(len(found), classes),
            cells[:, _SHARED + versions :],
        )

    @property
    def _entity(self) -> str:
        sql = self._reader.sql
        keys = [sql.text(f"outcome.{sql.name(key)}") for key in self._outcome.join_keys]
        return " || ' ' || ".join(f"coalesce({key}, '')" for key in keys) or "outcome.server_id"

    def _shares(self, served: str) -> list[str]:
        sql = self._reader.sql
        classes = [str(each) for each in self._label.classes or ()]
        return [sql.number(sql.json_text(f"{served}.probabilities", each)) for each in classes]

    def _value(self, column: SliceColumn) -> str:
        sql, (logged, name) = self._reader.sql, column.place
        if logged:
            return sql.json_text(f"seen.{logged}", name)
        return sql.text(f"outcome.{sql.name(name)}")

    def _due(self, instant: str) -> str:
        limit = self._window.until - self._outcome.labels[self._label.name]
        limit_sql = self._reader.sql.instant(limit.isoformat())
        return f"sum(case when {instant} <= {limit_sql} then 1 else 0 end)"

    @property
    def _same_row(self) -> str:
        same = [f"seen.{name} = outcome.{name}" for name in ("server_id", "server_row")]
        same += ["seen.served_at = outcome.event_timestamp", self._within("seen.served_at")]
        return " and ".join(same)

    def _shadow_join(self) -> str:
        later = self._reader.sql.seconds("shadow.served_at", "outcome.event_timestamp")
        same = [f"shadow.{name} = outcome.{name}" for name in ("request_id", "request_row")]
        same += ["shadow.server_id = outcome.server_id", "shadow.answered_as = 'shadow'"]
        same += [f"{later} between 0 and {_SHADOW_SECONDS}"]
        return f"join {self._reader.sql.table} as shadow\n    on {' and '.join(same)}\n"

    def _where(self, instant: str, version: str, of: str = "") -> str:
        """Return the condition for rows of a version; of the champion's, only rows of its run.

        A registry that was created again has other models under the same version numbers.
        """
        sql, run_id = self._reader.sql, self._window.run_id
        where = (
            f"{of}model_name = {sql.literal(self._window.model)} "
            f"and {of}model_version = {sql.literal(version)} and {self._within(instant)}"
        )
        if version != self._window.version or not self._has_other_runs:
            return where
        if of != "outcome.":  # the log
            return f"{where} and {of}run_id = {sql.literal(run_id)}"
        return (
            f"{where} and exists (select 1 from {sql.table} as answer "
            "where answer.server_id = outcome.server_id "
            "and answer.server_row = outcome.server_row "
            f"and answer.run_id = {sql.literal(run_id)} and {self._within('answer.served_at')})"
        )

    @cached_property
    def _has_other_runs(self) -> bool:
        """Whether the log has rows of another model under the champion's number, which is rare."""
        sql, window = self._reader.sql, self._window
        return bool(window.run_id) and bool(
            self._reader.rows(
                f"select 1 from {sql.table} where model_name = {sql.literal(window.model)} "
                f"and model_version = {sql.literal(window.version)} "
                f"and run_id <> {sql.literal(window.run_id)} "
                f"and {self._within('served_at')} limit 1"
            )
        )

    def _within(self, instant: str) -> str:
        sql, window = self._reader.sql, self._window
        return (
            f"{instant} >= {sql.instant(window.since.isoformat())} "
            f"and {instant} < {sql.instant(window.until.isoformat())}"
        )


def _slice_count(column: SliceColumn, row: Sequence[Cell]) -> SliceCount:
    place, value, labelled, due, rows = row
    name = OTHERS if _whole(place) > MOST_VALUES else str(value)
    if not column.is_logged:
        return SliceCount(name, _whole(labelled), None, None)
    return SliceCount(name, _whole(labelled), _whole(due), _whole(rows))


def _whole(cell: Cell) -> int:
    return int(str(cell or 0))
