"""Who uses columns of dbt models: recipes, and registered model versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from contract.expressions import columns_in
from runner.errors import RunnerError
from runner.feature_store.recipe_features import recipe_features
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.project.manifest import Manifest
from runner.recipes.computed_columns import computed_columns
from runner.recipes.feature_reference import FeatureReference
from runner.recipes.recipe import Recipe, load_recipe
from runner.recipes.recipe_files import all_recipes
from runner.recipes.references import check_references
from runner.records.run_facts import RunReader
from runner.records.run_reader import open_reader, read_json
from runner.settings import Settings


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


def recipe_users(settings: Settings, manifest: Manifest) -> tuple[list[User], dict[str, str]]:
    """Return the project's recipes, and for each that is wrong the reason, by its path."""
    users, broken = [], {}
    for path in all_recipes(settings.root):
        try:
            recipe = load_recipe(path)
            check_references(recipe, manifest)
        except RunnerError as err:
            broken[str(path)] = err.message
        else:
            users.append(recipe_user(recipe, manifest))
    return users, broken


def recipe_user(recipe: Recipe, manifest: Manifest) -> User:
    """Return the recipe with all columns that it takes."""
    columns = _recipe_columns(recipe, manifest)
    return User(str(recipe.path), recipe.registered_model_name, (), columns)


def version_users(settings: Settings) -> tuple[list[User], dict[str, str]]:
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


def _recipe_columns(recipe: Recipe, manifest: Manifest) -> dict[LineageColumn, str]:
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


def computed_parents(
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
