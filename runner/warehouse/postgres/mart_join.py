"""The point-in-time join of feature marts as dbt describes them, without Feast.

The SQL is that of `PointInTimePostgreSQLOfflineStore`, from the same plan; only what Feast's
objects would say comes from the manifest that they are built from. For commands that read a few
rows, or none: Feast takes longer to import than they run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import psycopg
import pyarrow as pa

from runner.project.manifest import EVENT_TIMESTAMP, Relation, Spine
from runner.sql import quote_table
from runner.warehouse.join.arrow_order import BLOCK_ROWS
from runner.warehouse.join.join_parts import JoinFeature, JoinView, MartFeatures
from runner.warehouse.join.join_request import Request, answer_columns
from runner.warehouse.join.packing import after
from runner.warehouse.join.view_plan import SourceColumns
from runner.warehouse.mart_snapshot import FEAST_TYPES
from runner.warehouse.postgres.answer import read_answer
from runner.warehouse.postgres.entity_rows import frame_rows, query_rows
from runner.warehouse.postgres.join_plan import describe, planning, with_index
from runner.warehouse.postgres.join_sql import packed_features, point_in_time_query
from runner.warehouse.postgres.pull import all_query
from runner.warehouse.postgres.store_config import PostgresStoreConfig


def join_frame(
    config: PostgresStoreConfig, frame: pd.DataFrame, requested: Sequence[MartFeatures]
) -> pa.Table:
    """Return the features as of each row's `event_timestamp`, in the frame's order."""
    with planning(config) as connection:
        rows = frame_rows(frame, _views(connection, config, requested))
    packs = packed_features(rows.views, rows.returned)
    request = Request(
        point_in_time_query(rows.spine, rows.views, rows.returned, BLOCK_ROWS),
        answer_columns(rows),
        rows.spine.row,
        rows.upload,
        packs=after(len(rows.returned), packs) if packs else None,
    )
    with read_answer(config, request) as reader:
        return reader.read_all()


def join_query(
    config: PostgresStoreConfig, spine_query: str, requested: Sequence[MartFeatures]
) -> str:
    """Return the SQL of the join to the spine that `spine_query` selects; its tables must exist."""
    with planning(config) as connection:
        rows = query_rows(connection, spine_query, _views(connection, config, requested))
        query = point_in_time_query(rows.spine, rows.views, rows.returned, BLOCK_ROWS)
        describe(connection, query, "the point-in-time query")
    return query


def labels_query(config: PostgresStoreConfig, spine: Spine, label: str) -> str:
    """Return the SQL that reads a label and `event_timestamp` of the spine, which must exist."""
    source = _source(spine)
    with planning(config) as connection:
        columns = _columns(connection, spine, source)
    return all_query(source, [columns.at(label), columns.at(EVENT_TIMESTAMP)], "true")


def _views(
    connection: psycopg.Connection, config: PostgresStoreConfig, requested: Sequence[MartFeatures]
) -> list[JoinView]:
    return [_view(connection, config, each) for each in requested]


def _view(
    connection: psycopg.Connection, config: PostgresStoreConfig, requested: MartFeatures
) -> JoinView:
    mart, spine_columns = requested.mart, dict(requested.keys)
    source = _source(mart)
    columns = _columns(connection, mart, source)
    created = mart.created_timestamp_column
    declared = {feature.name: FEAST_TYPES[feature.dtype] for feature in mart.features}
    planned = JoinView(
        name=mart.name,
        source=source,
        keys=tuple((spine_columns[key], columns.at(key)) for key in mart.join_keys),
        timestamp=columns.at(mart.timestamp_field),
        created=columns.at(created) if created else None,
        features=tuple(
            JoinFeature(columns.at(name), declared[name], output)
            for name, output in requested.features
        ),
        tie_break=tuple(columns.at(name) for name in declared),
        ttl=mart.ttl,
        knowledge_time=config.knowledge_time,
        is_indexed=False,
    )
    return with_index(connection, planned)


@dataclass(frozen=True)
class _MartSource:
    """The name of a mart's table, whose columns have the names that the view gives them."""

    name: str
    field_mapping: Mapping[str, str] = field(default_factory=dict)


def _columns(connection: psycopg.Connection, relation: Relation, source: str) -> SourceColumns:
    described = describe(
        connection, f"select * from {source} as source", f"data source {relation.name}"
    )
    return SourceColumns(_MartSource(relation.name), described)


def _source(relation: Relation) -> str:
    return quote_table(relation.schema, relation.alias)
