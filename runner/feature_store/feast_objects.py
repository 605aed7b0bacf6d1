"""Feast's objects, built from dbt's manifest and the recipes: dbt declares a feature once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from feast import Entity, FeatureService, FeatureView, Field
from feast.data_source import DataSource, PushSource
from feast.infra.offline_stores.bigquery_source import BigQuerySource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.value_type import ValueType

from runner.errors import RunnerError
from runner.feature_store.recipe_features import JoinedFeature
from runner.project.manifest import (
    EVENT_TIMESTAMP,
    FeatureMart,
    Manifest,
    Relation,
    Spine,
    full_name,
)
from runner.recipes.feature_reference import FeatureReference
from runner.sql import quote_table
from runner.warehouse.pushed_frame import RAW_TABLE_TAG

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
    views = {
        name: _feature_view(mart, entities, _data_source(mart, manifest))
        for name, mart in manifest.marts.items()
    }
    services = [_feature_service(recipe, views, manifest) for recipe in recipes]
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


def _feature_view(
    mart: FeatureMart, entities: Mapping[str, Entity], source: DataSource
) -> FeatureView:
    columns = [*(mart.columns[key] for key in mart.join_keys), *mart.features]
    return FeatureView(
        name=mart.name,
        entities=[entities[name] for name in mart.entities],
        ttl=mart.ttl or timedelta(0),  # Feast writes "unlimited" as zero
        schema=[
            Field(name=c.name, dtype=_FEAST_TYPES[c.dtype], description=c.description)
            for c in columns
        ],
        source=source,
        online=mart.online,
        description=mart.description,
        owner=mart.owner,
        tags={"dbt_model": mart.name, **dict.fromkeys(mart.tags, "true")},
    )


def _data_source(mart: FeatureMart, manifest: Manifest) -> DataSource:
    """Return the mart's table; of a mart that takes pushed rows, a push source of it.

    The two have names of their own: Feast cannot read a data source that changed its kind.
    """
    described = {
        "name": mart.name,
        "timestamp_field": mart.timestamp_field,
        "created_timestamp_column": mart.created_timestamp_column or "",
        "description": mart.description,
        "owner": mart.owner,
    }
    source = _source_of(mart, described)
    if mart.name not in manifest.pushed:
        return source
    table = manifest.pushed[mart.name]
    tags = {} if table is None else {RAW_TABLE_TAG: table.dump().decode()}
    return PushSource(name=f"{mart.name}_push", batch_source=source, tags=tags)


def spine_source(spine: Spine) -> DataSource:
    """Return the spine's table as Feast reads it without joining anything; in no registry."""
    return _source_of(spine, {"name": spine.name, "timestamp_field": EVENT_TIMESTAMP})


def _source_of(relation: Relation, described: Mapping[str, str]) -> DataSource:
    if relation.adapter_type == "bigquery":
        table = f"{relation.database}.{relation.schema}.{relation.alias}"
        return BigQuerySource(table=table, **described)
    return PostgreSQLSource(table=quote_table(relation.schema, relation.alias), **described)


def _feature_service(
    recipe: Recipe, views: Mapping[str, FeatureView], manifest: Manifest
) -> FeatureService:
    chosen: dict[tuple[str, str], list[str]] = {}
    for reference in map(FeatureReference.parse, recipe.features):
        view, feature = reference.view, reference.feature
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
        together = chosen.setdefault((view, reference.role), [])
        together.extend(names if feature == "*" else [feature])
    projections = []
    for (view, role), names in chosen.items():
        projected = views[view]
        if role:
            alone = [other for _, other in chosen].count(role) == 1 and role not in views
            # Feast names a role's features as we do, unless two views are in one role: of them it
            # could not tell which is meant.
            projected = projected.with_name(role if alone else full_name(role, view))
            projected = projected.with_join_key_map(_key_map(recipe, manifest, view, role))
        projections.append(projected[list(dict.fromkeys(names))])
    return FeatureService(
        name=recipe.name,
        features=projections,
        description=recipe.description or "",
        tags={"recipe": recipe.name, "registered_model_name": recipe.registered_model_name},
    )


def _key_map(recipe: Recipe, manifest: Manifest, view: str, role: str) -> dict[str, str]:
    """Return the view's join key of the role's entity → the role.

    Raises
    ------
    RunnerError
        If the recipe's spine has no such role of an entity of the view.
    """
    spine, entities = manifest.spines.get(recipe.spine), manifest.marts[view].entities
    entity = spine.roles.get(role, "") if spine else ""
    if entity not in entities:
        raise RunnerError(
            f"{recipe.path}: features: {recipe.spine} has no role {role!r} of an entity of {view}",
            hint=f"run `dbt parse`, then `runner check {recipe.path}`",
        )
    return {entities[entity]: role}


def joined_views(
    views: Mapping[str, FeatureView], features: Iterable[JoinedFeature]
) -> list[FeatureView]:
    """Return the views as a join takes them: each by its alias, with the keys of its role."""
    chosen = {feature.alias: feature for feature in features}
    return [
        views[feature.view]
        .with_name(alias)
        .with_join_key_map({key: column for key, column in feature.keys if key != column})
        if alias != feature.view
        else views[feature.view]
        for alias, feature in chosen.items()
    ]
