"""What a recipe asks of the feature store, from dbt's manifest alone: Feast is not imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from contract.bundle import Bundle
from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, Manifest, Spine
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.recipe import Recipe
from runner.sql import quoted
from runner.warehouse.join.join_parts import MartFeatures


class JoinedFeature(NamedTuple):
    """A feature as a point-in-time join is asked for it.

    Attributes
    ----------
    column
        Its name in the answer.
    keys
        Pairs (join key of the view, column of the rows that it is joined to), sorted.
    """

    view: str
    feature: str
    column: str
    keys: tuple[tuple[str, str], ...]

    @property
    def alias(self) -> str:
        """What the view is called in the join: by its keys too where they are in a role."""
        renamed = [column for key, column in self.keys if column != key]
        return "__".join([self.view, *renamed])


@dataclass(frozen=True)
class RecipeFeature:
    """A feature of a recipe: its view, its name there, and its column in every frame.

    Attributes
    ----------
    role, role_key
        The role that the view is joined in, a column of the spine, and the join key that it stands
        in for; empty: none.
    """

    mart: FeatureMart
    name: str
    dtype: str
    description: str
    role: str = ""
    role_key: str = ""

    @property
    def reference(self) -> str:
        """As recipes write it, `view:feature` or `view[role]:feature`."""
        return str(FeatureReference(self.mart.name, self.role, self.name))

    @property
    def column(self) -> str:
        """The column in training frames and model inputs, `view__feature` or `role__feature`."""
        return FeatureReference(self.mart.name, self.role, self.name).column

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Pairs (join key of the mart, column of the spine), sorted by join key."""
        keys = sorted(self.mart.join_keys)
        return tuple((key, self.role if key == self.role_key else key) for key in keys)

    @property
    def joined(self) -> JoinedFeature:
        """The feature as the join is asked for it."""
        return JoinedFeature(self.mart.name, self.name, self.column, self.keys)


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


def recipe_features(recipe: Recipe, manifest: Manifest) -> list[RecipeFeature]:
    """Return the recipe's features in its own order, `view:*` spelled out, without repetition.

    The recipe's references are taken to be checked (`check_references`).
    """
    roles = manifest.spines[recipe.spine].roles
    features: dict[str, RecipeFeature] = {}
    for text in recipe.features:
        reference = FeatureReference.parse(text)
        mart, role = manifest.marts[reference.view], reference.role
        role_key = mart.entities[roles[role]] if role else ""
        for _, column in reference.spelled_out(mart.features):
            described = (column.name, column.dtype, column.description)
            feature = RecipeFeature(mart, *described, role=role, role_key=role_key)
            features[feature.reference] = feature
    return list(features.values())


def bundle_features(bundle: Bundle) -> list[JoinedFeature]:
    """Return a serving bundle's features as the join is asked for them."""
    return [
        JoinedFeature(f.view, f.feature, f.name, tuple(zip(f.join_keys, f.keys, strict=True)))
        for f in bundle.features
    ]


def by_mart(features: Iterable[RecipeFeature]) -> list[MartFeatures]:
    """Return the features of each feature mart and role together, in the order of the features."""
    found: dict[tuple[str, str], MartFeatures] = {}
    for feature in features:
        mart, place = feature.mart, (feature.mart.name, feature.role)
        together = found.setdefault(place, MartFeatures(mart, [], feature.keys))
        together.features.append((feature.name, feature.column))
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
