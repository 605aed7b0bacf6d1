"""What a recipe asks of the feature store, from dbt's manifest alone: Feast is not imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, Manifest, Spine, full_name
from runner.recipes.recipe import Recipe
from runner.sql import quoted


@dataclass(frozen=True)
class RecipeFeature:
    """A feature of a recipe: its view, its name there, and its column in every frame."""

    mart: FeatureMart
    name: str
    dtype: str
    description: str

    @property
    def reference(self) -> str:
        """Feast's reference, `view:feature`."""
        return f"{self.mart.name}:{self.name}"

    @property
    def column(self) -> str:
        """The column in training frames and model inputs, `view__feature`, as Feast writes it."""
        return full_name(self.mart.name, self.name)


@dataclass(frozen=True)
class RequestInput:
    """A column of the spine that is a model input, and that clients send."""

    column: str
    dtype: str
    description: str

    @property
    def reference(self) -> str:
        """What recipes and errors call it: its name in the spine."""
        return self.column


def request_inputs(recipe: Recipe, spine: Spine) -> list[RequestInput]:
    """Return the recipe's request inputs in its own order, taken to be checked."""
    columns = (spine.columns[name] for name in recipe.request)
    return [RequestInput(column.name, column.dtype, column.description) for column in columns]


def spine_columns(recipe: Recipe, spine: Spine) -> list[str]:
    """Return all that a recipe reads of its spine: keys, time, label, slices, request inputs."""
    columns = [*spine.join_keys, EVENT_TIMESTAMP, recipe.label, *recipe.spine_columns]
    return list(dict.fromkeys(columns))


def recipe_features(recipe: Recipe, manifest: Manifest) -> list[RecipeFeature]:
    """Return the recipe's features in its own order, `view:*` spelled out, without repetition.

    The recipe's references are taken to be checked (`check_references`).
    """
    features: dict[str, RecipeFeature] = {}
    for reference in recipe.features:
        view, _, name = reference.partition(":")
        mart = manifest.marts[view]
        for column in mart.features:
            if name in {"*", column.name}:
                feature = RecipeFeature(mart, column.name, column.dtype, column.description)
                features[feature.reference] = feature
    return list(features.values())


def by_mart(features: Iterable[RecipeFeature]) -> list[tuple[FeatureMart, list[str]]]:
    """Return each feature mart with the names of its features, in the order of the features."""
    found: dict[str, tuple[FeatureMart, list[str]]] = {}
    for feature in features:
        found.setdefault(feature.mart.name, (feature.mart, []))[1].append(feature.name)
    return list(found.values())


def spine_query(spine: Spine, columns: list[str]) -> str:
    """Return the loader SQL: `columns` of the spine, in an order that does not change.

    A table has no order of its own; without one, the same data would give another dataset digest
    and another random forest.
    """
    order = dict.fromkeys([EVENT_TIMESTAMP, *spine.join_keys, *columns])
    adapter = spine.adapter_type
    path = [spine.schema, spine.alias]
    if adapter == "bigquery":
        path.insert(0, spine.database)
    return (
        f"select {', '.join(quoted(adapter, name) for name in columns)} "
        f"from {quoted(adapter, *path)} "
        f"order by {', '.join(quoted(adapter, name) for name in order)}"
    )
