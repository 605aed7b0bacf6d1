"""`runner lineage`: from raw columns through dbt models and recipes to model versions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from contract.expressions import columns_in
from runner import console
from runner.errors import RunnerError
from runner.feature_store.recipe_features import recipe_features
from runner.lineage.kept_lineage import KeptLineage
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.project import dbt
from runner.project.dbt_process import Progress
from runner.project.freshness import fingerprint
from runner.project.introspection import asks_warehouse
from runner.project.manifest import Manifest, load_manifest
from runner.recipes.computed_columns import computed_columns
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.recipe import Recipe, all_recipes, load_recipe
from runner.recipes.references import check_references
from runner.recipes.rules import with_view_names
from runner.records.run_facts import RunReader
from runner.records.run_reader import open_reader, read_json
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.wording import did_you_mean

_SHOWN = {"feature", "request", "computed", "label"}  # of a recipe; keys and times only join


@dataclass(frozen=True)
class User:
    """A recipe or a model version, and what it takes from dbt models.

    Attributes
    ----------
    name
        The recipe's path; `name/version` of a model version.
    model
        The registered model's name.
    aliases
        The model version's aliases; of a recipe none.
    columns
        Column → what it is there: `feature`, `request`, `label`, `key` or `time`; and, of a model
        version, `raw`: a feature came from it by the SQL of its training.
    """

    name: str
    model: str
    aliases: tuple[str, ...]
    columns: dict[LineageColumn, str]

    def uses(self, columns: Iterable[LineageColumn]) -> dict[LineageColumn, str]:
        """Return those of `columns` that it takes."""
        return {column: self.columns[column] for column in columns if column in self.columns}

    def named_as_in(self, lineage: Lineage) -> User:
        """Return the same with the names that the lineage has for its columns."""
        named = {lineage.known(column): role for column, role in self.columns.items()}
        return replace(self, columns=named)


@dataclass(frozen=True)
class LineageAnswer:
    """What depends on what, for one question.

    Attributes
    ----------
    starts
        The column asked for; the features and the label of a recipe.
    recipes, versions
        Those that use what was asked for, or something computed from it.
    broken
        Recipe or model version that cannot be read, or does not fit dbt's models → why.
    outcome
        The outcome model of a recipe's label: the served rows with their labels; empty: none.
    """

    what: str
    starts: tuple[LineageColumn, ...]
    lineage: Lineage
    recipes: tuple[User, ...]
    versions: tuple[User, ...]
    broken: dict[str, str]
    outcome: str = ""

    @property
    def is_recipe(self) -> bool:
        """Whether a recipe was asked for."""
        return _is_recipe(self.what)

    @property
    def downstream(self) -> tuple[LineageColumn, ...]:
        """What was asked for and every column that depends on it, each once."""
        found = (c for start in self.starts for c in self.lineage.downstream(start))
        return tuple(dict.fromkeys(found))

    @property
    def unresolved(self) -> dict[str, str]:
        """What is not known: column, recipe or version → reason."""
        gaps: dict[str, str] = {}
        for start in self.starts:
            gaps |= self.lineage.gaps(start)
            if not self.is_recipe:
                gaps |= self.lineage.untold_readers(start.relation)
        return gaps | self.broken


def ask(settings: Settings, what: str) -> LineageAnswer:
    """Return the lineage of a recipe's path or of a column, raw or of a dbt model.

    Raises
    ------
    RunnerError
        If there is no such column or recipe, or dbt cannot compile the project.
    """
    if _is_recipe(what):
        load_recipe(Path(what))  # told before dbt compiles
    with console.step("column lineage, MLflow's versions") as step:
        trained, unread = _versions(settings)
        lineage, manifest = compiled_lineage(settings, step.update)
        broken: dict[str, str] = {}
        outcome = None
        if _is_recipe(what):
            recipe = load_recipe(Path(what))
            check_references(recipe, manifest)
            outcome = manifest.outcome_of(recipe.spine, recipe.label)
            computed = _computed_parents(recipe, manifest)
            user = _recipe_user(recipe, manifest).named_as_in(lineage)
            roles = dict.fromkeys(computed, "computed")
            recipes = [replace(user, columns=user.columns | roles)]
            lineage = replace(lineage, parents=lineage.parents | computed)
            starts = tuple(c for c, role in recipes[0].columns.items() if role in _SHOWN)
        else:
            found, broken = _recipes(settings, manifest)
            recipes = [user.named_as_in(lineage) for user in found]
            starts = (find_column(lineage, what),)
    versions = [version.named_as_in(lineage) for version in trained]
    below = {below for start in starts for below in lineage.downstream(start)}
    models = {user.model for user in recipes}
    return LineageAnswer(
        what,
        starts,
        lineage,
        tuple(user for user in recipes if user.uses(below)),
        tuple(v for v in versions if (v.model in models if _is_recipe(what) else v.uses(below))),
        broken | unread,
        outcome.name if outcome else "",
    )


def compiled_lineage(settings: Settings, progress: Progress) -> tuple[Lineage, Manifest]:
    """Return every column's lineage, and the marts; dbt compiles only what may have changed.

    As for a full refresh: an increment's SQL may read rows that an earlier one computed, and they
    came by the full SQL.
    """
    kept = KeptLineage(settings, fingerprint(settings))
    if known := kept.read():
        return known, dbt.up_to_date(settings, progress)
    require_servers(settings)
    dbt.run(settings, ["compile", "--full-refresh"], progress)
    from runner.lineage.column_lineage import column_lineage  # sqlglot takes a while to import

    content = json.loads(settings.manifest_path.read_bytes())
    lineage = column_lineage(content)
    if not asks_warehouse(content, full_refresh=True):
        kept.write(lineage)
    return lineage, load_manifest(settings.manifest_path)


def recipe_columns(recipe: Recipe, manifest: Manifest) -> dict[LineageColumn, str]:
    """Return column → what it is to the recipe (see `User`), for all that the recipe takes."""
    found: dict[LineageColumn, str] = {}
    for text in recipe.features:
        reference = FeatureReference.parse(text)
        view, mart = reference.view, manifest.marts[reference.view]
        taken = (column.name for _, column in reference.spelled_out(mart.features))
        found |= {LineageColumn(view, each): "feature" for each in taken}
        found |= {LineageColumn(view, key): "key" for key in mart.join_keys}
        times = filter(None, (mart.timestamp_field, mart.created_timestamp_column))
        found |= {LineageColumn(view, time): "time" for time in times}
    spine = manifest.spines[recipe.spine]
    found |= {LineageColumn(spine.name, key): "key" for key in spine.join_keys}
    found |= {LineageColumn(spine.name, name): "request" for name in recipe.request}
    return found | {
        LineageColumn(spine.name, "event_timestamp"): "time",
        LineageColumn(spine.name, recipe.label): "label",
    }


def _computed_parents(
    recipe: Recipe, manifest: Manifest
) -> dict[LineageColumn, tuple[LineageColumn, ...]]:
    """Return the recipe's computed columns, and what each is computed from."""
    found = {
        feature.column: LineageColumn(feature.mart.name, feature.name)
        for feature in recipe_features(recipe, manifest)
    }
    found |= {name: LineageColumn(recipe.spine, name) for name in recipe.request}
    parents = {}
    for column in computed_columns(recipe, manifest):
        used = dict.fromkeys(columns_in(column.expression))
        found[column.name] = LineageColumn(str(recipe.path), column.name)
        parents[found[column.name]] = tuple(found[name] for name in used if name in found)
    return parents


def _is_recipe(what: str) -> bool:
    return what.endswith((".yaml", ".yml"))


def find_column(lineage: Lineage, what: str) -> LineageColumn:
    """Return the column of that name; `view:feature` is understood too.

    Raises
    ------
    RunnerError
        If there is none, with the nearest name.
    """
    asked = with_view_names([what])[0].replace(":", ".")
    relation, _, name = asked.rpartition(".")
    column = lineage.known(LineageColumn(relation, name))
    if column in lineage.parents:
        return column
    for off in lineage.disabled & {asked, relation}:
        raise RunnerError(
            f"{off} is disabled in dbt, so nothing is computed from it",
            hint="enable it, or ask for another",
        )
    columns: dict[str, list[str]] = {}
    for known in sorted(lineage.parents):
        columns.setdefault(known.relation, []).append(known.name)
    if asked in columns:
        raise RunnerError(
            f"{asked} is a table, not a column",
            hint=f"write one of {', '.join(f'{asked}.{each}' for each in columns[asked])}",
        )
    if relation in columns:
        names = columns[relation]
        problem, hint = f"{relation} has no column {name!r}", f"choose one of {', '.join(names)}"
        if relation in lineage.open:
            problem = f"no dbt model or YAML names a column {name!r} of {relation}"
            hint += ", or describe it in YAML"
        raise RunnerError(f"{problem}{did_you_mean(name, names)}", hint=hint)
    known_names = [str(known) for known in sorted(lineage.parents)]
    raise RunnerError(
        f"no column {what!r}{did_you_mean(what, known_names)}",
        hint="write MODEL.COLUMN of a dbt model, SCHEMA.TABLE.COLUMN of a raw table, or a "
        "recipe's path",
    )


def _recipes(settings: Settings, manifest: Manifest) -> tuple[list[User], dict[str, str]]:
    """Return the project's recipes, and those that are wrong with the reason."""
    users, broken = [], {}
    for path in all_recipes(settings.root):
        try:
            recipe = load_recipe(path)
            check_references(recipe, manifest)
        except RunnerError as err:
            broken[str(path)] = err.message
        else:
            users.append(_recipe_user(recipe, manifest))
    return users, broken


def _recipe_user(recipe: Recipe, manifest: Manifest) -> User:
    columns = recipe_columns(recipe, manifest)
    return User(str(recipe.path), recipe.registered_model_name, (), columns)


def _versions(settings: Settings) -> tuple[list[User], dict[str, str]]:
    """Return every registered version, the newest of a model first, and why any is left out."""
    reader, users, unread = open_reader(settings), [], {}
    for version in (each for name in reader.models() for each in reader.versions(name)):
        name = f"{version.name}/{version.version}"
        try:
            columns = _bundle_columns(reader, version.run_id)
        except (RunnerError, KeyError, TypeError) as err:
            # Another tool's version, or one whose run was deleted.
            unread[name] = f"no serving bundle ({err})"
        else:
            users.append(User(name, version.name, version.aliases, columns))
    return users, unread


def _bundle_columns(reader: RunReader, run_id: str) -> dict[LineageColumn, str]:
    run = reader.run(run_id)
    if run is None:
        raise RunnerError(f"MLflow has no run {run_id}", hint="register versions by runner train")
    bundle = read_json(reader, run, "serving_bundle/serving.json")
    found: dict[LineageColumn, str] = {}
    for feature in bundle["features"]:
        found[LineageColumn(feature["view"], feature["feature"])] = "feature"
        found |= {LineageColumn(feature["view"], key): "key" for key in feature["join_keys"]}
    spine = bundle["recipe"]["spine"]
    found |= {LineageColumn(spine, one["name"]): "request" for one in bundle.get("request", ())}
    for names in bundle["lineage"].get("raw_columns", {}).values():
        for relation, _, name in (raw.rpartition(".") for raw in names):
            found[LineageColumn(relation, name)] = "raw"
    found[LineageColumn(spine, bundle["label"]["name"])] = "label"
    return found
