"""What dbt's manifest says about feature marts and spines: the one source of every definition.

A dbt model in a folder `feature_mart` is a feature mart, one in a folder `spine_data` a spine. An
outcome model, which has `meta.outcome`, is a spine too. What Feast needs to know is in its
`config.meta`; see docs/features.md. One that breaks a rule is left out, with its errors, and the
others are read.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from contract.event_format import EventTable
from runner.duration import parse_duration
from runner.errors import RunnerError
from runner.project.column_types import dtype_of
from runner.project.manifest_file import (
    ManifestFile,
    ManifestNode,
    NodeColumn,
    file_of,
    is_pii,
    meta_of,
    models_of,
    read_manifest,
    selector_of,
    view_name,
)
from runner.project.mart_rules import is_role, mart_problems, problems_between, spine_problems
from runner.project.node_problem import NodeProblem, node_error
from runner.project.outcome_rules import is_outcome, outcome_of, outcome_problems
from runner.project.postgres_names import column_name_problems, model_name_problems
from runner.project.push_sources import push_tables
from runner.project.relations import (
    EVENT_TIMESTAMP,
    FeatureMart,
    MartColumn,
    OutcomeOf,
    Relation,
    Spine,
    full_name,
)

__all__ = [
    "EVENT_TIMESTAMP",
    "FeatureMart",
    "Manifest",
    "MartColumn",
    "OutcomeOf",
    "Relation",
    "Spine",
    "full_name",
    "load_manifest",
]


@dataclass(frozen=True)
class Manifest:
    """The feature marts and spines of one compiled dbt project.

    Attributes
    ----------
    errors
        What is wrong with a dbt model, by its name; a mart or spine that is here is not in `marts`
        or `spines`.
    left_out
        The names of the feature marts among them.
    pushed
        By feature mart that takes pushed rows: their raw table; None: the mart does not read it.
    sha256
        Digest of what the project meant when it was read: every dbt model's SQL, config and
        columns, and every macro, dbt's own included.
    digests
        The same for each of them, by dbt's unique id such as `model.shop.user_activity`.
    disabled
        Names of the dbt models that dbt has disabled.
    adapter_type
        The warehouse that dbt compiles for: `postgres` or `bigquery`.
    """

    path: Path
    project_name: str
    marts: Mapping[str, FeatureMart]
    spines: Mapping[str, Spine]
    sha256: str
    digests: Mapping[str, str] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()
    adapter_type: str = "postgres"
    errors: Mapping[str, tuple[RunnerError, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    pushed: Mapping[str, EventTable | None] = field(default_factory=dict)

    def outcome_of(self, spine: str, label: str) -> Spine | None:
        """Return the outcome model of a spine's label; None if dbt has none.

        An outcome model that is itself the spine is its own: it has every served row of the label.
        """
        for each in self.spines.values():
            found = each.outcome
            if found is not None and found.label == label and spine in {each.name, found.spine}:
                return each
        return None


def load_manifest(path: Path) -> Manifest:
    """Return the feature marts and spines in dbt's manifest at `path`, `target/manifest.json`.

    Raises
    ------
    RunnerError
        If dbt has not read the project yet.
    """
    content = read_manifest(path)
    adapter = content["metadata"].get("adapter_type") or "postgres"
    models = list(models_of(content))
    marts = {view_name(node): node for node in models if "feature_mart" in node["fqn"][:-1]}
    spines = {view_name(n): n for n in models if "spine_data" in n["fqn"][:-1] or is_outcome(n)}
    errors: dict[str, list[RunnerError]] = defaultdict(list)
    for node, problem in _problems(models, marts, spines, adapter):
        errors[view_name(node)].append(node_error(path.parent.parent, node, problem))
    built = {name: _mart(node, adapter) for name, node in marts.items() if name not in errors}
    for name, problem in problems_between(built):
        errors[name].append(node_error(path.parent.parent, marts[name], problem))
    entities = _entities(marts.values())
    joined = {
        name: _spine(node, adapter, entities) for name, node in spines.items() if name not in errors
    }
    for name, problem in _outcome_problems(joined, errors):
        errors[name].append(node_error(path.parent.parent, spines[name], problem))
    meaning = _meaning(content)
    return Manifest(
        path=path,
        project_name=content["metadata"]["project_name"],
        marts={name: mart for name, mart in built.items() if name not in errors},
        spines={name: spine for name, spine in joined.items() if name not in errors},
        sha256=_digest(meaning),
        digests={key: _digest(value) for key, value in meaning.items()},
        disabled=_disabled(content) - {view_name(node) for node in models},
        adapter_type=adapter,
        errors={name: tuple(found) for name, found in errors.items()},
        left_out=tuple(name for name in marts if name in errors),
        pushed=push_tables(content, path.parent.parent, built),
    )


def _outcome_problems(
    spines: Mapping[str, Spine], broken: Collection[str]
) -> Iterator[tuple[str, NodeProblem]]:
    """Yield what does not fit, by outcome model; nothing where the spine itself is broken."""
    for name, spine in spines.items():
        if spine.outcome is not None and spine.outcome.spine not in broken:
            yield from ((name, problem) for problem in outcome_problems(spine, spines))


def _disabled(content: ManifestFile) -> frozenset[str]:
    nodes = (node for nodes in (content.get("disabled") or {}).values() for node in nodes)
    return frozenset(view_name(node) for node in nodes if node["resource_type"] == "model")


def _meaning(content: ManifestFile) -> dict[str, object]:
    # dbt writes times and invocation ids into the file, so the file's own digest would change
    # with every build; so does the compiled SQL of an incremental dbt model.
    nodes: dict[str, object] = {
        key: [node.get("raw_code"), node["config"], node["columns"]]
        for key, node in content["nodes"].items()
    }
    return nodes | {key: macro["macro_sql"] for key, macro in content["macros"].items()}


def _digest(meaning: object) -> str:
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _problems(
    models: list[ManifestNode],
    marts: Mapping[str, ManifestNode],
    spines: Mapping[str, ManifestNode],
    adapter: str,
) -> Iterator[tuple[ManifestNode, NodeProblem]]:
    """Yield what is wrong with each dbt model by itself, and with their names."""
    for node in marts.values():
        yield from ((node, problem) for problem in mart_problems(node))
    entities = _entities(marts.values())
    for node in spines.values():
        yield from ((node, problem) for problem in spine_problems(node, entities))
    if adapter == "postgres":
        for node in (*marts.values(), *spines.values()):
            yield from ((node, problem) for problem in column_name_problems(node))
        yield from model_name_problems(models)


def _mart(node: ManifestNode, adapter: str) -> FeatureMart:
    meta = meta_of(node)
    return FeatureMart(
        **vars(_relation(node, adapter)),
        # Feast writes "unlimited" as 0; a row that is never valid would be no feature.
        ttl=(parse_duration(str(meta["ttl"])) or None) if "ttl" in meta else None,
        timestamp_field=meta.get("timestamp_field", EVENT_TIMESTAMP),
        created_timestamp_column=meta.get("created_timestamp_column"),
        online=meta.get("online", True),
        compare_every=(
            parse_duration(str(meta["compare_every"])) or None if "compare_every" in meta else None
        ),
    )


def _entities(marts: Iterable[ManifestNode]) -> frozenset[str]:
    """Return the entities of feature marts, right or wrong."""
    declared = (meta_of(node).get("entities") for node in marts)
    return frozenset(str(name) for names in declared if isinstance(names, dict) for name in names)


def _spine(node: ManifestNode, adapter: str, entities: frozenset[str]) -> Spine:
    labels = meta_of(node)["labels"].items()
    relation = _relation(node, adapter)
    roles = {
        key: value
        for key, value in relation.entities.items()
        if is_role(key, value, relation.columns, entities)
    }
    keys = {key: value for key, value in relation.entities.items() if key not in roles}
    return Spine(
        **vars(replace(relation, entities=keys)),
        labels={name: parse_duration(str(window)) for name, window in labels},
        roles=roles,
        outcome=outcome_of(node),
    )


def _relation(node: ManifestNode, adapter: str) -> Relation:
    meta = meta_of(node)
    return Relation(
        name=view_name(node),
        selector=selector_of(node),
        database=node["database"],
        schema=node["schema"],
        alias=node["alias"],
        description=" ".join(node["description"].split()),
        file=file_of(node),
        owner=meta.get("owner", ""),
        tags=tuple(node["tags"]),
        entities=meta["entities"],
        columns={
            column["name"]: _column(column, dtype)
            for column in node["columns"].values()
            if (dtype := dtype_of(column)) is not None  # else JSON, which nothing is joined by
        },
        compiled_code=node.get("compiled_code"),
        adapter_type=adapter,
    )


def _column(column: NodeColumn, dtype: str) -> MartColumn:
    description = " ".join(column["description"].split())
    return MartColumn(column["name"], dtype, description, pii=is_pii(column))
