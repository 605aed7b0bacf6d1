"""What a point-in-time join consists of, in every warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from textwrap import indent
from typing import TYPE_CHECKING, NamedTuple

from runner.project.relations import FeatureMart

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class JoinColumn:
    """A column as the warehouse describes it.

    Attributes
    ----------
    type
        The warehouse's own name of the type, or of an array's element: `int8`, `INT64`.
    is_array
        True for an array of `type`.
    """

    name: str
    type: str
    is_array: bool = False


@dataclass(frozen=True)
class JoinSpine:
    """The rows to be enriched.

    Attributes
    ----------
    query
        SQL whose result is the spine, in the order the answer must have.
    columns
        What `query` returns, without `row`; of an uploaded DataFrame keys and timestamp only, with
        the types they are to be compared as.
    timestamp
        Name of the event timestamp among `columns`.
    row
        A column name that occurs nowhere else: the spine row's number, from 0.
    is_numbered
        True when `query` returns `row` too (an uploaded DataFrame).
    order
        Pairs (column that `query` returns, how it sorts: `desc`, `nulls last` …) that the answer is
        to be sorted by, where a query in parentheses has no order (BigQuery).
    """

    query: str
    columns: tuple[JoinColumn, ...]
    timestamp: str
    row: str
    is_numbered: bool = False
    order: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class JoinFeature:
    """A feature to read: its source column, its Feast type (or None), its name in the answer."""

    column: JoinColumn
    declared: str | None
    output: str


@dataclass(frozen=True)
class JoinView:
    """A feature view to join.

    Attributes
    ----------
    name
        The view's name in this retrieval.
    source
        What follows `from`: a table name, or a query in parentheses.
    keys
        Pairs (name in the spine, source column), each compared for equality on its own.
    timestamp, created
        The source's event timestamp, and its created timestamp if it has one.
    features
        What to read.
    tie_break
        The view's feature columns in declared order, by which equally new rows are compared.
        Empty when a unique index rules ties out.
    ttl
        How long a value stays valid; None: for ever.
    knowledge_time
        True: a row created after the spine row's timestamp is invisible.
    is_indexed
        True when an index on (keys, timestamp) exists: it decides the strategy.
    text_keys
        Spine names of the keys that are compared by their text, such as an enum's with a text.
    """

    name: str
    source: str
    keys: tuple[tuple[str, JoinColumn], ...]
    timestamp: JoinColumn
    created: JoinColumn | None
    features: tuple[JoinFeature, ...]
    tie_break: tuple[JoinColumn, ...]
    ttl: timedelta | None
    knowledge_time: bool
    is_indexed: bool
    text_keys: frozenset[str] = frozenset()


class MartFeatures(NamedTuple):
    """What to join of a feature mart.

    Attributes
    ----------
    features
        Pairs (name in the mart, name in the answer).
    keys
        Pairs (join key of the mart, column of the spine).
    """

    mart: FeatureMart
    features: list[tuple[str, str]]
    keys: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class EntityRows:
    """A spine and the views as they are to be joined to it.

    Attributes
    ----------
    returned
        The spine columns that the query returns; those in `beside` it need not.
    upload, beside
        As in `point_in_time.retrieval_job.Request`.
    names
        All columns of the spine.
    """

    spine: JoinSpine
    views: list[JoinView]
    names: tuple[str, ...]
    returned: tuple[JoinColumn, ...] = ()
    upload: tuple[str, pa.Table] | None = None
    beside: pa.Table | None = None


def listed(items: Sequence[str], depth: int = 4) -> str:
    """Return `items` one to a line."""
    return indent(",\n".join(items), " " * depth)


def conditions(items: Sequence[str], depth: int = 2) -> str:
    """Return `items` joined by `and`, one to a line."""
    return ("\n" + " " * depth + "and ").join(items)
