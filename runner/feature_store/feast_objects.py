"""Feast's objects, built from dbt's manifest and the recipes: dbt declares a feature once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from feast import Entity, FeatureService, FeatureView, Field
from feast.data_source import DataSource
from feast.infra.offline_stores.bigquery_source import BigQuerySource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.value_type import ValueType

from runner.errors import RunnerError
from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, Manifest, Relation, Spine
from runner.sql import quote_table

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe

_FEAST_TYPES = {
    "int64": Int64,
    "int32": Int32,
    "float64": Float64,
    "float32": Float32,
    "string": String,
    "bool": Bool,
    "timestamp": UnixTimestamp,
}
_KEY_TYPES = {
    "int64": ValueType.INT64,
    "int32": ValueType.INT32,
    "string": ValueType.STRING,
    "timestamp": ValueType.UNIX_TIMESTAMP,
}


def feast_objects(manifest: Manifest, recipes: Iterable[Recipe]) -> list[Any]:
    """Return every entity, feature view and feature service of the project.

    One entity per name in `meta.entities`, one feature view per feature mart, one feature service
    per recipe.

    Raises
    ------
    RunnerError
        If a recipe names an unknown feature.
    """
    entities = _entities(manifest.marts.values())
    views = {name: _feature_view(mart, entities) for name, mart in manifest.marts.items()}
    services = [_feature_service(recipe, views) for recipe in recipes]
    return [*entities.values(), *views.values(), *services]


def _entities(marts: Iterable[FeatureMart]) -> dict[str, Entity]:
    entities: dict[str, Entity] = {}
    for mart in marts:
        for name, join_key in mart.entities.items():
            column = mart.columns[join_key]  # the same in every mart: the manifest sees to it
            entities.setdefault(
                name,
                Entity(
                    name=name,
                    join_keys=[join_key],
                    value_type=_KEY_TYPES[column.dtype],
                    description=column.description,
                ),
            )
    return entities


def _feature_view(mart: FeatureMart, entities: Mapping[str, Entity]) -> FeatureView:
    columns = [*(mart.columns[key] for key in mart.join_keys), *mart.features]
    return FeatureView(
        name=mart.name,
        entities=[entities[name] for name in mart.entities],
        ttl=mart.ttl or timedelta(0),  # Feast writes "unlimited" as zero
        schema=[
            Field(name=c.name, dtype=_FEAST_TYPES[c.dtype], description=c.description)
            for c in columns
        ],
        source=_data_source(mart),
        online=mart.online,
        description=mart.description,
        owner=mart.owner,
        tags={"dbt_model": mart.name, **dict.fromkeys(mart.tags, "true")},
    )


def _data_source(mart: FeatureMart) -> DataSource:
    described = {
        "name": mart.name,
        "timestamp_field": mart.timestamp_field,
        "created_timestamp_column": mart.created_timestamp_column or "",
        "description": mart.description,
        "owner": mart.owner,
    }
    return _source_of(mart, described)


def spine_source(spine: Spine) -> DataSource:
    """Return the spine's table as Feast reads it without joining anything; in no registry."""
    return _source_of(spine, {"name": spine.name, "timestamp_field": EVENT_TIMESTAMP})


def _source_of(relation: Relation, described: Mapping[str, str]) -> DataSource:
    if relation.adapter_type == "bigquery":
        table = f"{relation.database}.{relation.schema}.{relation.alias}"
        return BigQuerySource(table=table, **described)
    return PostgreSQLSource(table=quote_table(relation.schema, relation.alias), **described)


def _feature_service(recipe: Recipe, views: Mapping[str, FeatureView]) -> FeatureService:
    chosen: dict[str, list[str]] = {}
    for reference in recipe.features:
        view, _, feature = reference.partition(":")
        if view not in views:
            raise RunnerError(
                f"{recipe.path}: features: no feature mart {view!r} in dbt's manifest",
                hint=f"run `dbt parse`, or choose one of {', '.join(sorted(views))}",
            )
        names = [field.name for field in views[view].features]
        if feature not in {"*", *names}:
            raise RunnerError(
                f"{recipe.path}: features: {view} has no feature {feature!r}",
                hint=f"run `dbt parse`, or choose one of {', '.join(names)}",
            )
        chosen.setdefault(view, []).extend(names if feature == "*" else [feature])
    return FeatureService(
        name=recipe.name,
        features=[_projected(views[view], names) for view, names in chosen.items()],
        description=recipe.description or "",
        tags={"recipe": recipe.name, "registered_model_name": recipe.registered_model_name},
    )


def _projected(view: FeatureView, names: Sequence[str]) -> FeatureView:
    return view[list(dict.fromkeys(names))]
