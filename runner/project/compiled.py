"""What dbt compiled for a recipe: its dbt models in the order of building, and their tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from runner.project import dbt, freshness
from runner.project.introspection import asks_warehouse
from runner.project.manifest_file import (
    ManifestFile,
    ManifestNode,
    parents_of,
    read_by,
    read_manifest,
    upstream_first,
    view_name,
)
from runner.settings import Settings

_NAME = "compiled"


@dataclass(frozen=True)
class CompiledModel:
    """A dbt model as `dbt compile` left it.

    Attributes
    ----------
    materialized
        `view`, `table`, `incremental` …
    relation
        Its name in the warehouse, quoted.
    sql
        The query behind it.
    parents
        Relation → name of what the query reads: dbt models, sources, seeds.
    tests
        SQL of the tests that run after it, by name.
    tested
        What these tests read, as in `parents`.
    """

    name: str
    materialized: str
    relation: str
    sql: str
    parents: Mapping[str, str]
    tests: Mapping[str, str]
    tested: Mapping[str, str]


def up_to_date_models(
    settings: Settings, selected: Sequence[str], progress: dbt.Progress
) -> list[CompiledModel]:
    """Return the dbt models `selected` and all upstream of them, parents first.

    dbt compiles them, unless it did so for the project as it is now and asks nobody else.

    Raises
    ------
    RunnerError
        If dbt cannot compile.
    """
    key = {"project": freshness.fingerprint(settings), "selected": list(selected)}
    kept = freshness.kept(settings, _NAME)
    if key["project"] and kept.get("key") == key and freshness.is_current(settings):
        return [CompiledModel(**each) for each in kept["models"]]
    dbt.run(settings, ["compile", *dbt.upstream_of(list(selected))], progress)
    content = read_manifest(settings.manifest_path)
    models = compiled_models(content, selected)
    is_same = key["project"] and key["project"] == freshness.fingerprint(settings)
    if is_same and not asks_warehouse(content, _compiled(content, selected), full_refresh=False):
        freshness.keep(settings, _NAME, {"key": key, "models": [asdict(each) for each in models]})
    return models


def compiled_models(content: ManifestFile, selected: Sequence[str]) -> list[CompiledModel]:
    """Return the dbt models `selected` and all upstream of them, parents first.

    Parameters
    ----------
    content
        Of dbt's manifest after `dbt compile --indirect-selection buildable` of the same selection.
    selected
        Names of dbt models.
    """
    nodes = _nodes(content)
    order = upstream_first(nodes, selected)
    tests = _tests(nodes, order)
    return [
        CompiledModel(
            name=view_name(nodes[key]),
            materialized=nodes[key]["config"]["materialized"],
            relation=nodes[key]["relation_name"] or "",
            sql=nodes[key].get("compiled_code") or "",
            parents=_parents(nodes, key),
            tests={nodes[t]["name"]: nodes[t].get("compiled_code") or "" for t in tests[key]},
            tested={k: v for test in tests[key] for k, v in _parents(nodes, test).items()},
        )
        for key in order
        if nodes[key]["resource_type"] == "model" and nodes[key]["relation_name"]
    ]


def _nodes(content: ManifestFile) -> dict[str, ManifestNode]:
    return {**content["nodes"], **content["sources"]}


def _compiled(content: ManifestFile, selected: Sequence[str]) -> list[str]:
    """Return the unique ids of all that is compiled for `selected`, tests included."""
    nodes = _nodes(content)
    order = upstream_first(nodes, selected)
    return [*order, *(test for tests in _tests(nodes, order).values() for test in tests)]


def _parents(nodes: Mapping[str, ManifestNode], key: str) -> dict[str, str]:
    return {relation: view_name(node) for relation, _, node in read_by(nodes, nodes[key])}


def _tests(nodes: Mapping[str, ManifestNode], order: Sequence[str]) -> dict[str, list[str]]:
    """Return the tests of each; a test that reads several belongs to the one built last."""
    tests: dict[str, list[str]] = {key: [] for key in order}
    position = {key: number for number, key in enumerate(order)}
    for test, node in nodes.items():
        reads = parents_of(node)
        if node["resource_type"] == "test" and reads and tests.keys() >= set(reads):
            tests[max(reads, key=position.__getitem__)].append(test)
    return tests
