"""What the online store holds for the keys of entities, as the champion's features."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from contract.bundle import Bundle, BundleFeature
from contract.values import FeatureValue
from contract.view_layout import PRESENT
from runner.commands.online.absent_views import absent_views, view_names
from runner.errors import RunnerError
from runner.online.connection import connect
from runner.online.online_config import load_online_config
from runner.online.reader import EntityKey, OnlineReader, seen_values
from runner.packaging.served_version import load_version, require_features
from runner.project.manifest import FeatureMart, load_manifest
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.mart_snapshot import COLUMN_TYPES, KEY_TYPES

_DROP = "fill it in, or drop those rows"


def online_table(settings: Settings, name: str, keys: pa.Table) -> pa.Table:
    """Return `keys` with a column per feature of the champion, as Redis has it now.

    A value that is missing, expired or null is null; `missing_views` names the views that have no
    value for the row, as in `runner predict`.

    Raises
    ------
    RunnerError
        If the model has no champion, or `keys` lacks an entity key, has one of another type, or a
        column with the name of one that is added.
    """
    require_servers(settings, ["Redis"])
    model, version = load_version(settings, f"models:/{name}@champion")
    bundle, marts = model.bundle, load_manifest(settings.manifest_path).marts
    require_features(bundle, marts, f"{name} version {version}")
    _refuse_taken(bundle, keys.column_names)
    entities = _entities(bundle, keys)
    config, now = load_online_config(settings), datetime.now(UTC)
    columns: dict[str, pa.Array] = {}
    with connect(settings, config) as connection:
        for features in _by_view(bundle):
            mart = marts[features[0].view]
            reader = OnlineReader(connection, mart, config.project)
            columns |= _values(reader, mart, features, entities, now)
    table = keys
    for feature in bundle.features:
        table = table.append_column(feature.name, columns[feature.name])
    absent = absent_views(bundle, table)
    return table.append_column("missing_views", view_names(absent, table.num_rows))


def _refuse_taken(bundle: Bundle, columns: Sequence[str]) -> None:
    """Raise if a column has the name of an added column: two of one name cannot be read."""
    added = {*(feature.name for feature in bundle.features), "missing_views"}
    taken = [name for name in columns if name in added]
    if taken:
        raise RunnerError(
            f"keys: column {taken[0]!r} has the name of an added column",
            hint=f"drop {', '.join(taken)}",
        )


def _entities(bundle: Bundle, keys: pa.Table) -> list[EntityKey]:
    """Return the entity keys of each row in the bundle's types."""
    columns: dict[str, list[FeatureValue]] = {}
    for key in bundle.entity_keys:
        kind = KEY_TYPES[key.dtype]
        if key.name not in keys.column_names:
            needed = ", ".join(one.name for one in bundle.entity_keys)
            raise RunnerError(f"keys: no column {key.name!r}", hint=f"this model needs {needed}")
        given = keys[key.name]
        if given.null_count:
            raise RunnerError(f"keys: {key.name} is empty in {given.null_count} rows", hint=_DROP)
        try:
            columns[key.name] = given.cast(kind).to_pylist()
        except pa.ArrowException as err:
            problem = f"keys: {key.name}: expected {kind}, got {given.type}"
            raise RunnerError(problem, hint=f"convert it: {err}") from err
    rows = range(keys.num_rows)
    return [{name: values[row] for name, values in columns.items()} for row in rows]


def _by_view(bundle: Bundle) -> list[list[BundleFeature]]:
    """Return the features of each view, and role, together."""
    found: dict[str, list[BundleFeature]] = {}
    for feature in bundle.features:
        found.setdefault(feature.projection, []).append(feature)
    return list(found.values())


def _values(
    reader: OnlineReader,
    mart: FeatureMart,
    features: Sequence[BundleFeature],
    entities: Sequence[EntityKey],
    now: datetime,
) -> dict[str, pa.Array]:
    """Return column → values of the features, all of one view, for each entity."""
    pairs = list(zip(features[0].join_keys, features[0].keys, strict=True))
    redis_keys = reader.redis_keys([{key: one[name] for key, name in pairs} for one in entities])
    rows = [
        {seen.feature: seen.value for seen in seen_values(mart, row, now) if seen.status == PRESENT}
        for row in reader.read(redis_keys)
    ]
    return {
        one.name: pa.array([row.get(one.feature) for row in rows], COLUMN_TYPES[one.dtype])
        for one in features
    }
