"""`runner lineage`: from raw columns through dbt models and recipes to model versions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from runner import console
from runner.commands.reading.column_users import (
    User,
    computed_parents,
    recipe_user,
    recipe_users,
    version_users,
)
from runner.errors import RunnerError
from runner.lineage.kept_lineage import KeptLineage
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.project import dbt
from runner.project.dbt_process import Progress
from runner.project.freshness import fingerprint
from runner.project.introspection import asks_warehouse
from runner.project.manifest import Manifest, load_manifest
from runner.project.manifest_file import read_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.reference_rules import with_view_names
from runner.recipes.references import check_references
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.wording import did_you_mean

_SHOWN = {"feature", "request", "computed", "label"}  # of a recipe; keys and times only join


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
                gaps |= self.lineage.unresolved_readers(start.relation)
        return gaps | self.broken


def ask(settings: Settings, what: str) -> LineageAnswer:
    """Return the lineage of a recipe's path or of a column, raw or of a dbt model.

    Raises
    ------
    RunnerError
        If there is no such column or recipe, or dbt cannot compile the project.
    """
    if _is_recipe(what):
        load_recipe(Path(what))  # a wrong one is reported before dbt compiles
    with console.step("column lineage, MLflow's versions") as step:
        trained, unread = version_users(settings)
        lineage, manifest = compiled_lineage(settings, step.update)
        broken: dict[str, str] = {}
        outcome = None
        if _is_recipe(what):
            recipe = load_recipe(Path(what))
            check_references(recipe, manifest)
            outcome = manifest.outcome_of(recipe.spine, recipe.label)
            computed = computed_parents(recipe, manifest)
            user = recipe_user(recipe, manifest).named_as_in(lineage)
            roles = dict.fromkeys(computed, "computed")
            recipes = [replace(user, columns=user.columns | roles)]
            lineage = replace(lineage, parents=lineage.parents | computed)
            starts = tuple(c for c, role in recipes[0].columns.items() if role in _SHOWN)
        else:
            found, broken = recipe_users(settings, manifest)
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

    It compiles as for a full refresh: an increment's SQL may read rows that were computed by the
    full SQL.
    """
    kept = KeptLineage(settings, fingerprint(settings))
    if known := kept.read():
        return known, dbt.up_to_date(settings, progress)
    require_servers(settings)
    dbt.run(settings, ["compile", "--full-refresh"], progress)
    from runner.lineage.column_lineage import column_lineage  # sqlglot takes a while to import

    content = read_manifest(settings.manifest_path)
    lineage = column_lineage(content)
    if not asks_warehouse(content, full_refresh=True):
        kept.write(lineage)
    return lineage, load_manifest(settings.manifest_path)


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
