"""A feature mart's table and what may happen to it between two runs, drawn at random.

Most of these changes leave no trace in the versions of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import strategies as st

from runner.project.manifest import FeatureMart, MartColumn
from tests.instants import NOW, at
from tests.online_project import OnlineProject

SHAPES = (PLAIN, PARTITIONED, INHERITED) = "plain", "partitioned", "inherited"
Row = tuple[Any, ...]
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]),
    "int32": st.sampled_from([-(2**31), 0, 5, 2**31 - 1]),
    "string": st.sampled_from(["", "a", "b c", "ä€😀", "'", '"', "\\", "{,}", "NULL", "\n"]),
    "timestamp": st.integers(0, 3).map(lambda n: NOW - timedelta(days=n)),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "float64": st.floats(allow_nan=False),
    "float32": st.floats(width=32, allow_nan=False),
    "string": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "bool": st.booleans(),
    "timestamp": st.integers(0, 2**31).map(lambda n: datetime.fromtimestamp(n, UTC)),
}
"""What join keys and features may be, by dtype."""
Draw = Callable[[st.SearchStrategy[Any]], Any]
_BOUND = at(-2.5)
"""Rows of this time and later are in the partition that is swapped."""
_AFTER = f"from ('{_BOUND}') to (maxvalue)"
_TWINS = ("f_int64", "g_int64")
_REWRITES = {
    "f_int32": "integer using ~f_int32",
    "f_float64": "double precision using -f_float64",
    "f_string": "text using f_string || 'x'",
}
_DEFAULTS = {"f_bool": "true", "f_int64": "7", "f_string": "'d'", "f_float32": "0.5"}


class ChangingTable:
    """The table of `mart`, which `change` changes.

    Attributes
    ----------
    shape
        Whether the rows are in one table, in partitions, or in a table and its children.
    is_unique
        Whether an index allows one row per entity and event time (in one table of those).
    """

    def __init__(self, project: OnlineProject, mart: FeatureMart, shape: str) -> None:
        self._project = project
        self._mart = mart
        self._key = list(mart.columns)[: len(mart.join_keys) + 1]
        self._names = (f"{mart.alias}_{n}" for n in count())
        self._spare = ""
        self._child = ""
        self.shape = shape
        self.is_unique = False
        if shape == PARTITIONED:
            self._partition()
        if shape == INHERITED:
            self._child = next(self._names)
            self._run(f"create table feature_mart.{self._child} () inherits ({{table}})")

    def change(self, draw: Draw) -> str:
        """Do one thing to the table; return what."""
        changes: dict[str, Callable[[], object]] = {
            "features renamed crosswise": self._rename_crosswise,
            "a column dropped and added": lambda: self._drop_and_add(draw),
            "a column rewritten": lambda: self._rewrite(draw),
            "a column's type changed": self._change_type,
            "a feature left dbt or came back": lambda: self._leave_dbt(draw),
            "unique index added or dropped": self.turn_unique,
            "truncated": lambda: self._run("truncate {table}"),
            "vacuumed": lambda: self._run("vacuum full {table}"),
            "rebuilt": self._rebuild,
            "updated": lambda: self._run("update {table} set f_int64 = 5 where f_bool"),
            "swapped": self._swap,
        }
        often = ["unique index added or dropped", "swapped"]
        name = draw(st.sampled_from([*sorted(changes), *often]))
        changes[name]()
        return str(name)

    def delete(self, draw: Draw) -> None:
        """Delete some of the rows."""
        places = "select tableoid::regclass::text || ctid::text from {table}"
        found = sorted(place for (place,) in self._run(places))
        gone = draw(st.sets(st.sampled_from(found), max_size=2)) if found else set()
        condition = "tableoid::regclass::text || ctid::text = any(%s)"
        self._run(f"delete from {{table}} where {condition}", [list(gone)])

    def insert(self, rows: Sequence[Row], *, to_child: bool) -> None:
        """Insert `rows`, if wanted into a child of the table."""
        if self.is_unique:
            match = " and ".join(f"{name} = %s" for name in self._key)
            for row in rows:
                self._run(f"delete from {{table}} where {match}", row[: len(self._key)])
            rows = self._one_per_time(rows)
        into = self._child if to_child and self.shape == INHERITED else self._mart.alias
        self._project.insert(self._mart, *rows, into=into)
        if not self._spare:
            self._keep_spare()

    def index(self) -> None:
        """Add the indexes that new rows are found by, which some changes drop."""
        keys = ", ".join(self._key)
        self._run(f"create index on {{table}} ({keys})")
        self._run(f"create index on {{table}} ({self._mart.known_at})")

    def content(self) -> list[dict[str, Any]]:
        """Return the rows."""
        [mart] = self._project.marts
        names = list(mart.columns)
        return [
            dict(zip(names, row, strict=True))
            for row in self._run(f"select {', '.join(names)} from {{table}}")
        ]

    def _run(self, statement: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        table = f"feature_mart.{self._mart.alias}"
        found = self._project.sql.execute(statement.format(table=table).encode(), values)
        return found.fetchall() if found.description else []

    def _one_per_time(self, rows: Sequence[Row]) -> list[Row]:
        return list({row[: len(self._key)]: row for row in rows}.values())

    def _rename_crosswise(self) -> None:
        one, other = _TWINS
        for old, new in ((one, "between"), (other, one), ("between", other)):
            self._run(f"alter table {{table}} rename {old} to {new}")

    def _drop_and_add(self, draw: Draw) -> None:
        name = draw(st.sampled_from(sorted(_DEFAULTS)))
        default = draw(st.sampled_from(["null", _DEFAULTS[name]]))
        [(kind,)] = self._run(
            "select format_type(atttypid, atttypmod) from pg_attribute "
            f"where attrelid = '{{table}}'::regclass and attname = '{name}'"
        )
        self._run(f"alter table {{table}} drop column {name}")
        self._run(f"alter table {{table}} add column {name} {kind} default {default}")

    def _rewrite(self, draw: Draw) -> None:
        name = draw(st.sampled_from(sorted(_REWRITES)))
        self._run(f"alter table {{table}} alter column {name} type {_REWRITES[name]}")
        self._spare = ""  # its types would differ

    def _change_type(self) -> None:
        self._run("alter table {table} alter column f_string type varchar")
        self._spare = ""  # its types would differ

    def _leave_dbt(self, draw: Draw) -> None:
        name = draw(st.sampled_from([*_TWINS, "f_string"]))
        [seen] = self._project.marts
        shown: dict[str, MartColumn] = {
            column: meta
            for column, meta in self._mart.columns.items()
            if (column in seen.columns) != (column == name)
        }
        self._project.marts[0] = replace(seen, columns=shown)

    def turn_unique(self) -> None:
        """Add the index that allows one row per entity and event time, or drop it."""
        index = f"{self._mart.alias}_unique"
        if self.is_unique:
            self._run(f"drop index feature_mart.{index}")
        else:
            keys = ", ".join(self._key)
            self._run(
                "delete from {table} where (tableoid, ctid) in (select tableoid, ctid from (select"
                f" tableoid, ctid, row_number() over (partition by {keys}) as n from {{table}}"
                ") as numbered where n > 1)"
            )
            self._run(f"create unique index {index} on {{table}} ({keys})")
        self.is_unique = not self.is_unique
        self._spare = ""  # it would keep the index of a partition

    def _rebuild(self) -> None:
        """As dbt's `table` does."""
        self._run("create table feature_mart.again as table {table}")
        self._run("drop table {table} cascade")
        self._run(f"alter table feature_mart.again rename to {self._mart.alias}")
        self.shape, self.is_unique, self._child = PLAIN, False, ""

    def _partition(self) -> None:
        table, old, new = "feature_mart." + self._mart.alias, next(self._names), next(self._names)
        self._run("alter table {table} rename to unpartitioned")
        self._run(
            "create table {table} (like feature_mart.unpartitioned) "
            "partition by range (event_timestamp)"
        )
        self._run("drop table feature_mart.unpartitioned")
        self._run(
            f"create table feature_mart.{old} partition of {table} "
            f"for values from (minvalue) to ('{_BOUND}')"
        )
        self._run(f"create table feature_mart.{new} partition of {table} for values {_AFTER}")
        self._child = new

    def _keep_spare(self) -> None:
        """Make a table of the same entities and times whose rows are older than the next run."""
        self._spare = next(self._names)
        columns = ", ".join(self._mart.columns)
        others = columns.replace("f_int64", "f_int64 # 1")
        self._run(f"create table feature_mart.{self._spare} (like {{table}})")
        self._run(
            f"insert into feature_mart.{self._spare} ({columns}) select {others} from {{table}} "
            f"where event_timestamp >= '{_BOUND}'"
        )

    def _swap(self) -> None:
        """Put that table in the place of ours, or of one of its parts."""
        if self._spare and self.shape == PLAIN:
            self._swap_names()
        elif self._spare:
            self._swap_child()

    def _swap_names(self) -> None:
        former = next(self._names)
        self._run(f"alter table {{table}} rename to {former}")
        self._run(f"alter table feature_mart.{self._spare} rename to {self._mart.alias}")
        self._spare = ""  # its index would keep its name
        self.is_unique = False
        self._run(f"drop index if exists feature_mart.{self._mart.alias}_unique")

    def _swap_child(self) -> None:
        spare, child = self._spare, self._child
        leave, join = "no inherit {table}", "inherit {table}"
        if self.shape == PARTITIONED:
            self._run(f"alter table {{table}} detach partition feature_mart.{child}")
            self._run(
                f"alter table {{table}} attach partition feature_mart.{spare} for values {_AFTER}"
            )
        else:
            self._run(f"alter table feature_mart.{child} {leave}")
            self._run(f"alter table feature_mart.{spare} {join}")
        self._spare, self._child = child, spare
