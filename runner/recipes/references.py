"""A recipe's references held against what dbt knows: spine, label and features."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from runner.duration import format_duration
from runner.project.manifest import (
    EVENT_TIMESTAMP,
    FeatureMart,
    Manifest,
    MartColumn,
    Spine,
)
from runner.project.yaml_lines import described_at
from runner.recipes.computed_columns import computed_column_problems
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.recipe import Recipe
from runner.recipes.spine_columns import spine_names
from runner.recipes.yaml_source import KeyPath, Problem
from runner.wording import did_you_mean

_LABEL_DTYPES = {
    "classification": {"bool", "int32", "int64", "string"},
    "regression": {"float32", "float64", "int32", "int64"},
}
_SLICE_DTYPES = {"bool", "int32", "int64", "string"}


def check_references(recipe: Recipe, manifest: Manifest) -> None:
    """Raise unless the spine, its label and every feature exist and fit together.

    Raises
    ------
    RunnerError
        One for all that is wrong, each with file, line and column in the recipe and the nearest
        name that exists.
    """
    problems = manifest_problems(recipe, manifest)
    if problems:
        raise recipe.source.errors(problems)


def manifest_problems(recipe: Recipe, manifest: Manifest) -> list[Problem]:
    """Return what is wrong with what the recipe names: spine, label, features, slices and so on."""
    return [
        *_spine_problems(recipe, manifest),
        *_request_problems(recipe, manifest),
        *_feature_problems(recipe, manifest),
        *_full_name_problems(recipe, manifest),
        *computed_column_problems(recipe, manifest),
        *_slice_problems(recipe, manifest),
        *_override_problems(recipe, manifest),
    ]


def _spine_problems(recipe: Recipe, manifest: Manifest) -> Iterator[Problem]:
    spine = manifest.spines.get(recipe.spine)
    if spine is None:
        yield from _not_there(("spine",), recipe.spine, "spine_data", manifest)
    elif recipe.label in spine.labels:
        yield from _label_problems(recipe, spine)
    elif recipe.label in spine.columns:
        yield Problem(
            ("label",),
            f"{recipe.label!r} is a column of {spine.name}, but not among its meta.labels",
            f"declare it in {spine.file}, such as `labels: {{{recipe.label}: 7d}}`",
        )
    else:
        problem = f"{spine.name} has no label {recipe.label!r}"
        yield _unknown(("label",), problem, recipe.label, spine.labels)


def _label_problems(recipe: Recipe, spine: Spine) -> Iterator[Problem]:
    dtype, window = spine.columns[recipe.label].dtype, spine.labels[recipe.label]
    if dtype not in _LABEL_DTYPES[recipe.task]:
        yield Problem(
            ("label",),
            f"{recipe.label!r} is {dtype} in {spine.name}, which is no label for {recipe.task}",
            f"cast it in the spine's SQL ({spine.file}), or change the task",
        )
    if recipe.split.embargo < window:
        yield Problem(
            ("split", "embargo"),
            f"shorter than the label's window, {format_duration(window)} ({spine.file}): training "
            "labels would be decided in the test period",
            f"set split.embargo to {format_duration(window)} or more",
        )


def _request_problems(recipe: Recipe, manifest: Manifest) -> Iterator[Problem]:
    spine = manifest.spines.get(recipe.spine)
    if spine is None:
        return  # told where the recipe names it
    taken = {
        **dict.fromkeys(spine.labels, "a label, which is not known yet when a client asks"),
        **dict.fromkeys(spine.join_keys, "an entity key, which clients send anyway"),
        EVENT_TIMESTAMP: "the time of the row; a request is asked now",
    }
    known = [name for name in spine.columns if name not in taken]
    for i, name in enumerate(recipe.request):
        path = ("request", i)
        if name in taken:
            yield Problem(path, f"{name!r} is {taken[name]}", _choose(known))
        elif name not in spine.columns:
            yield _unknown(path, f"{spine.name} has no column {name!r}", name, known)


def _feature_problems(recipe: Recipe, manifest: Manifest) -> Iterator[Problem]:
    spine = manifest.spines.get(recipe.spine)
    seen = set()
    for i, text in enumerate(recipe.features):
        reference, path = FeatureReference.parse(text), ("features", i)
        mart = manifest.marts.get(reference.view)
        if mart is None:
            yield from _not_there(path, reference.view, "feature_mart", manifest)
            continue
        yield from _column_problems(path, mart, reference.feature)
        if not mart.online:
            yield Problem(
                path,
                f"{mart.name} is `online: false`, so a served model would never see it",
                f"remove `online: false` in {mart.file}, or drop the feature",
            )
        if spine is not None and reference.projection not in seen:
            yield from _join_problems(path, mart, reference.role, spine)
        seen.add(reference.projection)


def _column_problems(path: KeyPath, mart: FeatureMart, name: str) -> Iterator[Problem]:
    features = [feature.name for feature in mart.features]
    if name not in {"*", *features}:
        yield _unknown(path, f"{mart.name} has no feature {name!r}", name, features)


def _join_problems(path: KeyPath, mart: FeatureMart, role: str, spine: Spine) -> Iterator[Problem]:
    """Yield why a mart does not join to the spine, in a role or in none."""
    if role and role not in spine.roles:
        declare = f"declare it in {spine.file}, such as `entities: {{{role}: {_entity_of(mart)}}}`"
        hint = f"choose one of {', '.join(spine.roles)}" if spine.roles else declare
        meant = did_you_mean(role, spine.roles)
        yield Problem(path, f"the spine {spine.name} has no role {role!r}{meant}", hint)
        return
    if role and spine.roles[role] not in mart.entities:
        by = ", ".join(mart.entities) or "nothing"
        problem = f"{role!r} is a role of {spine.roles[role]}, and {mart.name} is by {by}"
        yield Problem(path, problem, f"name a mart by {spine.roles[role]}, or another role")
        return
    for entity, key in mart.entities.items():
        column = role if role and spine.roles[role] == entity else key
        yield from _key_problems(path, mart, (entity, key), column, spine)


def _key_problems(
    path: KeyPath, mart: FeatureMart, entity: tuple[str, str], column: str, spine: Spine
) -> Iterator[Problem]:
    """Yield why the spine's `column` cannot be the mart's key of an entity, `(name, key)`."""
    name, key = entity
    if column not in spine.join_keys:
        roles = [role for role, of in spine.roles.items() if of == name]
        problem = f"{mart.name} is by {name} ({key}), which the spine {spine.name} does not have"
        hint = f"add {key} to the spine and its meta.entities ({spine.file}), or drop the feature"
        if roles:
            problem = f"{mart.name} is by {name}, which {spine.name} has as {' and '.join(roles)}"
            hint = f"say which: {mart.name}[{roles[0]}]:…"
        yield Problem(path, problem, hint)
    elif spine.columns[column].dtype != mart.columns[key].dtype:
        called = key if column == key else f"{key}, in the role {column},"
        yield Problem(
            path,
            f"{called} is {mart.columns[key].dtype} in {mart.name}, but "
            f"{spine.columns[column].dtype} in the spine {spine.name}",
            "cast one of them in its SQL",
        )


def _entity_of(mart: FeatureMart) -> str:
    return next(iter(mart.entities), "account")


def _full_name_problems(recipe: Recipe, manifest: Manifest) -> Iterator[Problem]:
    """Yield the features whose column in the training rows would be another's, too."""
    spine = manifest.spines.get(recipe.spine)
    taken: dict[str, str] = {}
    if spine is not None:
        taken = spine_names(recipe, spine)
    for i, text in enumerate(recipe.features):
        reference = FeatureReference.parse(text)
        mart = manifest.marts.get(reference.view)
        for one, _ in reference.spelled_out(mart.features) if mart else ():
            other = taken.setdefault(one.column, str(one))
            if other != str(one):
                problem = f"{one} and {other} would both be {one.column} in training rows"
                yield Problem(("features", i), problem, "rename one of them in its dbt model")


def _slice_problems(recipe: Recipe, manifest: Manifest) -> Iterator[Problem]:
    for i, name in enumerate(recipe.slices):
        path, (view, _, feature) = ("slices", i), FeatureReference.parse(name)
        relation: Spine | FeatureMart | None = manifest.spines.get(recipe.spine)
        columns: Collection[MartColumn] = relation.columns.values() if relation else ()
        if feature:
            relation = manifest.marts.get(view)
            columns = relation.features if relation else ()
        if relation is None:
            continue  # reported where the spine or the features name it
        by_name = {column.name: column for column in columns}
        found = by_name.get(feature or view)
        if found is None:
            kind = "feature" if feature else "column"
            problem = f"{relation.name} has no {kind} {feature or view!r}"
            yield _unknown(path, problem, feature or view, by_name)
        elif name == recipe.label:
            problem = f"{name!r} is the label: rows of one label are no test of a model"
            yield Problem(path, problem, "name another column, or a feature")
        elif found.dtype not in _SLICE_DTYPES:
            yield Problem(
                path,
                f"{name!r} is {found.dtype}; slices are by text, flags or whole numbers",
                f"cut it into bands in the SQL ({relation.file})",
            )


def _override_problems(recipe: Recipe, manifest: Manifest) -> Iterator[Problem]:
    for i, reference in enumerate(recipe.feature_overrides):
        view, _, name = FeatureReference.parse(reference)
        mart = manifest.marts.get(view)
        if mart is None or reference in recipe.features:
            continue  # reported where the features name it
        known = [feature.name for feature in mart.features]
        if name not in {"*", *known}:
            problem = f"{view} has no feature {name!r}"
            yield _unknown(("feature_overrides", i), problem, name, known)


def _not_there(path: KeyPath, name: str, folder: str, manifest: Manifest) -> Iterator[Problem]:
    """Yield why there is no dbt model `name` in a folder spine_data or feature_mart."""
    if errors := manifest.errors.get(name):
        yield from (Problem(path, error.message, error.hint) for error in errors)
    elif name in manifest.disabled:
        hint = "enable it in dbt (`enabled: true`), or take it out of the recipe"
        yield Problem(path, f"the dbt model {name!r} is disabled in dbt", hint)
    elif place := described_at(manifest.path.parent.parent, folder, name):
        problem = f"{place} describes {name}, and there is no {name}.sql"
        yield Problem(path, problem, "write that file, or give the SQL and the YAML one name")
    else:
        known = manifest.spines if folder == "spine_data" else manifest.marts
        yield _unknown(path, f"no dbt model {name!r} in a folder {folder}", name, known)


def _unknown(path: KeyPath, problem: str, name: str, known: Collection[str]) -> Problem:
    return Problem(path, f"{problem}{did_you_mean(name, known)}", _choose(known))


def _choose(known: Collection[str]) -> str:
    return f"choose one of {', '.join(known)}" if known else "write the dbt model first"
