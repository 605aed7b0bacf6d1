"""What the YAML of a feature mart or a spine must say; each rule yields what breaks it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from contract.feast_format import colliding_features
from runner.duration import parse_duration
from runner.project.column_types import DTYPES, KEY_DTYPES, declared_type, dtype_of, is_json
from runner.project.manifest_file import ManifestNode, meta_of, view_name
from runner.project.node_problem import NodeProblem
from runner.project.outcome_rules import is_outcome, outcome_meta_problems
from runner.project.relations import EVENT_TIMESTAMP, FeatureMart
from runner.wording import did_you_mean, show

_EXPECTED: Mapping[str, tuple[type, str]] = {
    "entities": (dict, "`entity: join key` lines"),
    "labels": (dict, "`label: window` lines"),
    "outcome": (dict, "`{spine: ..., label: ...}`"),
    "timestamp_field": (str, "the name of a column"),
    "created_timestamp_column": (str, "the name of a column"),
    "online": (bool, "true or false"),
    "owner": (str, "text"),
}
_MART_KEYS = (
    "entities",
    "ttl",
    "timestamp_field",
    "created_timestamp_column",
    "online",
    "compare_every",
    "owner",
)
_SPINE_KEYS = ("entities", "labels", "outcome", "owner")


def mart_problems(node: ManifestNode) -> Iterator[NodeProblem]:
    """Yield what is wrong with a feature mart."""
    yield from _version_problems(node)
    yield from _relation_problems(node, _MART_KEYS)
    meta = meta_of(node)
    for key in ("ttl", "compare_every"):
        if key in meta:
            yield from _duration_problems(("config", "meta", key), meta[key])
    stamps = []
    for key in ("timestamp_field", "created_timestamp_column"):
        column = meta.get(key, EVENT_TIMESTAMP if key == "timestamp_field" else None)
        if isinstance(column, str):
            stamps.append(column)
            yield from _timestamp_problems(node, column, f"meta.{key}", ("config", "meta", key))
    keys = (str(key) for _, key in _lines(meta.get("entities")))
    if node["columns"].keys() <= {*stamps, *keys}:
        hint = "add one to the SQL and the YAML"
        yield NodeProblem((), "has no column that is a feature", hint)


def is_role(
    key: object, value: object, columns: Collection[str], entities: Collection[str]
) -> bool:
    """Whether `key: value` of a spine's entities is `role: entity`, not `entity: join key`.

    Parameters
    ----------
    columns
        The spine's.
    entities
        Those of the feature marts: what one of them calls an entity is no role.
    """
    return key in columns and key not in entities and value in entities


def spine_problems(node: ManifestNode, entities: Collection[str]) -> Iterator[NodeProblem]:
    """Yield what is wrong with a spine; `entities` are those of the feature marts."""
    if node.get("version") is not None:
        problem = f"has versions (v{node['version']}), and recipes name no version of a spine"
        yield NodeProblem(("versions",), problem, "write each version as a dbt model of its own")
    yield from _relation_problems(node, _SPINE_KEYS, entities)
    yield from _timestamp_problems(node, EVENT_TIMESTAMP, "the spine", ())
    if is_outcome(node):
        yield from outcome_meta_problems(node)
    labels = meta_of(node).get("labels")
    if not labels:
        hint = "name each label and its window, such as `labels: {is_purchase_7d: 7d}`"
        yield NodeProblem(("config", "meta"), "meta.labels is missing", hint)
    for label, window in _lines(labels):
        keys = ("config", "meta", "labels", str(label))
        yield from _duration_problems(keys, window)
        yield from _column_problems(node, label, f"meta.labels.{label}", keys)


def _version_problems(node: ManifestNode) -> Iterator[NodeProblem]:
    """Yield what would take the table away from those who read a mart without its version."""
    if node.get("version") is not None and node["alias"] != view_name(node):
        problem = f"version {node['version']} has the table {node['alias']}, not {view_name(node)}"
        hint = f"add `config: {{alias: {view_name(node)}}}` to the version, as `runner new-version`"
        yield NodeProblem(("versions",), problem, f"{hint} does")


def _relation_problems(
    node: ManifestNode, known: tuple[str, ...], entities: Collection[str] = ()
) -> Iterator[NodeProblem]:
    if node["config"].get("materialized") == "ephemeral":
        problem = "is ephemeral, so there is no table to read"
        yield NodeProblem((), problem, "materialize it as a view or table")
    for key, value in _lines(meta_of(node)):
        keys = ("config", "meta", key)
        if key not in known:
            problem = f"unknown meta.{key}{did_you_mean(key, known)}"
            yield NodeProblem(keys, problem, f"known: {', '.join(sorted(known))}")
        elif key in _EXPECTED and not isinstance(value, _EXPECTED[key][0]):
            problem = f"meta.{key}: expected {_EXPECTED[key][1]}, got {show(value)}"
            yield NodeProblem(keys, problem, "correct it and run `dbt parse`")
    yield from _entity_problems(node, entities)
    for column in node["columns"].values():
        if dtype_of(column) is None and not (is_outcome(node) and is_json(column)):
            name, kind = column["name"], declared_type(column)
            dtypes = f"one of {', '.join(sorted(DTYPES))}"
            yield NodeProblem(
                ("columns", name, "data_type"),
                f"column {name} has data_type {kind!r}, which Feast cannot hold",
                f"declare {dtypes}"
                if kind == "missing"
                else f"write `cast({name} as text)` in the SQL and `data_type: text`, or {known}",
            )


def _entity_problems(node: ManifestNode, known: Collection[str]) -> Iterator[NodeProblem]:
    entities = meta_of(node).get("entities")
    if entities is None:
        hint = "name each Feast entity and its join key, such as `entities: {user: user_id}`"
        yield NodeProblem(("config", "meta"), "meta.entities is missing", hint)
    for entity, key in _lines(entities):
        keys = ("config", "meta", "entities", str(entity))
        columns = list(node["columns"])
        if entity not in known and key in known and key not in columns:  # `role: entity`
            yield from _column_problems(node, entity, f"meta.entities.{entity}: {key}", keys)
            key = entity
        elif entity in columns and key not in columns and known:
            meant = did_you_mean(str(key), known)
            problem = f"meta.entities.{entity}: no feature mart has an entity {show(key)}{meant}"
            yield NodeProblem(keys, problem, f"entities: {', '.join(sorted(known))}")
        else:
            yield from _column_problems(node, key, f"meta.entities.{entity}", keys)
        column = node["columns"].get(key) if isinstance(key, str) else None
        if column and dtype_of(column) not in {None, *KEY_DTYPES}:
            yield NodeProblem(
                ("columns", column["name"], "data_type"),
                f"join key {key} is {declared_type(column)}, and a join key is a whole number, "
                "text or a time",
                f"write `cast({key} as bigint)` or `cast({key} as text)` in the SQL, and the same "
                "as its data_type",
            )


def _lines(value: object) -> Iterator[tuple[str, object]]:
    """Yield keys and values of a mapping; of anything else, reported elsewhere, nothing."""
    yield from value.items() if isinstance(value, dict) else ()


def _column_problems(
    node: ManifestNode, column: object, where: str, keys: tuple[str, ...]
) -> Iterator[NodeProblem]:
    if column not in list(node["columns"]):
        meant = did_you_mean(str(column), node["columns"])
        problem = f"{where} needs a column {show(column)}, which is not described{meant}"
        yield NodeProblem(keys, problem, "add it to the SQL and under columns, or correct the name")


def _timestamp_problems(
    node: ManifestNode, column: str, where: str, keys: tuple[str, ...]
) -> Iterator[NodeProblem]:
    yield from _column_problems(node, column, where, keys)
    found = node["columns"].get(column)
    if found and dtype_of(found) not in {None, "timestamp"}:
        yield NodeProblem(
            ("columns", column, "data_type"),
            f"{where} is {column}, which is {declared_type(found)} and no timestamp",
            "cast it to timestamptz (BigQuery: timestamp) in the SQL, in UTC",
        )


def _duration_problems(keys: tuple[str, ...], value: object) -> Iterator[NodeProblem]:
    try:
        parse_duration(str(value))
    except ValueError as err:
        where = ".".join(keys[1:])
        yield NodeProblem(keys, f"{where}: {err}", "correct it and run `dbt parse`")


def problems_between(marts: Mapping[str, FeatureMart]) -> Iterator[tuple[str, NodeProblem]]:
    """Yield what feature marts, right by themselves, do not agree on, by name."""
    declared: dict[str, tuple[str, str, FeatureMart]] = {}
    sharing: dict[frozenset[str], dict[str, list[str]]] = defaultdict(dict)
    for mart in marts.values():
        for entity, key in mart.entities.items():
            dtype = mart.columns[key].dtype
            first_key, first_dtype, first = declared.setdefault(entity, (key, dtype, mart))
            if (key, dtype) != (first_key, first_dtype):
                yield (
                    mart.name,
                    NodeProblem(
                        ("config", "meta", "entities", entity),
                        f"entity {entity} is {key} {dtype}, but {first_key} {first_dtype} in "
                        f"{first.name} ({first.file})",
                        "give the entity the same join key and type in every feature mart",
                    ),
                )
        if mart.online:
            names = [feature.name for feature in mart.features]
            sharing[frozenset(mart.join_keys)][mart.name] = names
    for views in sharing.values():
        for pair in colliding_features(views):
            for one, other in (pair, pair[::-1]):
                view, _, feature = one.partition(":")
                problem = f"{one} and {other} share one field in Redis, so one overwrites the other"
                hint = "rename one of the two features (Feast keeps 32 bits of a hash)"
                yield view, NodeProblem(("columns", feature), problem, hint)
