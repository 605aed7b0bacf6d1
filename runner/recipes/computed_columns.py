"""The columns of a model that are computed: elapsed days, parts of the asked instant, derived SQL.

Features and request inputs that are times enter a model as the days since then. A derived value may
use features, request inputs, and computed columns above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contract.computed import ComputedColumn
from contract.expressions import ASKED_AT, DTYPES, KINDS, Kind
from runner.project.manifest import Manifest
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.recipe import Recipe
from runner.recipes.spine_columns import spine_names
from runner.recipes.yaml_source import KeyPath, Problem
from runner.wording import did_you_mean

_SINCE = "days_since_"


class _Source(NamedTuple):
    """A column that others are computed from.

    Attributes
    ----------
    name
        In training rows and in the bundle.
    short
        The feature's own name; of others the name.
    path
        Where the recipe asks for it.
    """

    name: str
    short: str
    dtype: str
    path: KeyPath

    @property
    def dotted(self) -> str:
        """The name as `view.feature` or `role.feature`."""
        return self.name.removesuffix(f"__{self.short}") + f".{self.short}"


def computed_columns(recipe: Recipe, manifest: Manifest) -> tuple[ComputedColumn, ...]:
    """Return the recipe's computed columns in the order of computing, taken to be checked."""
    return tuple(_computed(recipe, manifest)[0])


def computed_column_problems(recipe: Recipe, manifest: Manifest) -> list[Problem]:
    """Return what is wrong with derived values, and with the names of computed columns."""
    return _computed(recipe, manifest)[1]


def _computed(recipe: Recipe, manifest: Manifest) -> tuple[list[ComputedColumn], list[Problem]]:
    """Return what can be computed, and what is wrong; nothing while a dbt model is missing."""
    if recipe.spine not in manifest.spines or not {*recipe.feature_marts} <= {*manifest.marts}:
        return [], []
    sources = list(_sources(recipe, manifest))
    columns = _Columns(recipe, manifest, sources)
    problems: list[Problem] = []
    for source, column in _named(recipe, sources):
        problems += columns.add(column, source)
    for name, sql in recipe.derived.items():
        problems += columns.derive(name, sql)
    return columns.computed, problems


def _sources(recipe: Recipe, manifest: Manifest) -> Iterator[_Source]:
    spine = manifest.spines[recipe.spine]
    for i, text in enumerate(recipe.features):
        reference = FeatureReference.parse(text)
        for feature, column in reference.spelled_out(manifest.marts[reference.view].features):
            yield _Source(feature.column, column.name, column.dtype, ("features", i))
    for i, name in enumerate(recipe.request):
        if name in spine.columns:
            yield _Source(name, name, spine.columns[name].dtype, ("request", i))


def _named(recipe: Recipe, sources: Sequence[_Source]) -> Iterator[tuple[_Source, ComputedColumn]]:
    """Yield the days since each time, and the parts of the asked instant."""
    for source in sources:
        if source.dtype == "timestamp":
            short = _SINCE + source.short
            name = source.name.removesuffix(source.short) + short
            node = ["days_between", ["column", ASKED_AT], ["column", source.name]]
            written = f"days since {source.name}"
            column = ComputedColumn(name, "float64", node, written)
            yield _Source(name, short, "float64", source.path), column
    for i, part in enumerate(recipe.asked_at):
        name = f"asked_at_{part}"
        node = ["calendar", part, recipe.time_zone, ["column", ASKED_AT]]
        written = f"{part} of the asked instant in {recipe.time_zone}"
        column = ComputedColumn(name, "float64", node, written)
        yield _Source(name, name, "float64", ("asked_at", i)), column


class _Columns:
    """Collects computed columns, each by a name that nothing else has."""

    def __init__(self, recipe: Recipe, manifest: Manifest, sources: Sequence[_Source]) -> None:
        self._taken = spine_names(recipe, manifest.spines[recipe.spine])
        self._taken |= {source.name: f"the feature {source.name}" for source in sources}
        self._recipe = recipe
        self._known = list(sources)
        self.computed: list[ComputedColumn] = []

    def add(self, column: ComputedColumn, source: _Source) -> Iterator[Problem]:
        """Add a column; yield what is wrong with its name."""
        if column.name in self._taken:
            problem = f"{column.name} ({column.written}) is also {self._taken[column.name]}"
            yield Problem(source.path, problem, "rename one of them")
            return
        self._taken[column.name] = f"computed: {column.written}"
        self._known.append(source)
        self.computed.append(column)

    def derive(self, name: str, sql: str) -> Iterator[Problem]:
        """Add a derived value; yield what is wrong with it."""
        from runner.recipes.expression_sql import RefusedSqlError, translated  # loads sqlglot

        path = ("derived", name)
        try:
            node, kind = translated(sql, self._resolve)
        except RefusedSqlError as err:
            yield Problem(path, str(err), err.hint)
        else:
            column = ComputedColumn(name, DTYPES[kind], node, sql)
            yield from self.add(column, _Source(name, name, column.dtype, path))

    def _resolve(self, name: str) -> tuple[str, Kind]:
        """Return the one column that SQL means by a name; see `expression_sql.Resolve`."""
        from runner.recipes.expression_sql import RefusedSqlError

        found = [each for each in self._known if each.name == name] or [
            each for each in self._known if name in {each.short, each.dotted}
        ]
        if len(found) == 1:
            if found[0].dtype == "timestamp":
                hint = f"use {_SINCE}{name.rpartition('.')[2]}, the days since then"
                raise RefusedSqlError(f"{name} is a time", hint)
            return found[0].name, KINDS[found[0].dtype]
        if found:
            names = " or ".join(each.dotted for each in found)
            raise RefusedSqlError(f"{name!r} may be one of several columns", f"write {names}")
        raise RefusedSqlError(*self._unknown(name))

    def _unknown(self, name: str) -> tuple[str, str]:
        """Return what is wrong with a name that no column has, and what to do."""
        if name in self._recipe.derived:
            problem = f"{name!r} is not computed yet: a derived value uses those above it"
            return problem, "move it up; no value can use itself"
        names = {each.short: None for each in self._known if each.dtype != "timestamp"}
        return f"there is no column {name!r}{did_you_mean(name, names)}", (
            f"use features, request inputs or computed columns: {', '.join(names)}"
        )
