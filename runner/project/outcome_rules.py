"""What an outcome model must have: served rows, and a label that fits its spine's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.duration import format_duration
from runner.project.column_types import is_json
from runner.project.manifest_file import ManifestNode, meta_of
from runner.project.node_problem import NodeProblem
from runner.project.relations import OutcomeOf, Spine
from runner.wording import did_you_mean

_OUTCOME = ("config", "meta", "outcome")
_SERVED: Mapping[str, str] = {
    "model_name": "string",
    "model_version": "string",
    "prediction": "string",
    "server_id": "string",
    "server_row": "int64",
    "request_id": "string",
    "request_row": "int64",
}
"""The columns from the serving log, besides `event_timestamp` and the JSON `probabilities`."""


def is_outcome(node: ManifestNode) -> bool:
    """Return whether the dbt model is an outcome model: `meta.outcome` makes it one."""
    return "outcome" in meta_of(node)


def outcome_of(node: ManifestNode) -> OutcomeOf | None:
    """Return the spine and label of an outcome model; None if the dbt model is not one."""
    return OutcomeOf(**meta_of(node)["outcome"]) if is_outcome(node) else None


def outcome_meta_problems(node: ManifestNode) -> Iterator[NodeProblem]:
    """Yield what is wrong with an outcome model's meta and columns by themselves."""
    declared: object = meta_of(node)["outcome"]
    if isinstance(declared, dict) and not (
        declared.keys() == {"spine", "label"}
        and all(isinstance(name, str) for name in declared.values())
    ):
        hint = "write `outcome: {spine: spine_purchase, label: is_purchase_7d}`"
        yield NodeProblem(_OUTCOME, "meta.outcome names one spine and one label", hint)
    column = node["columns"].get("probabilities")
    if column is None or not is_json(column):
        hint = "take it from the serving log as it is; data_type: jsonb (BigQuery: json)"
        yield NodeProblem(("columns",), "needs a JSON column probabilities", hint)


def outcome_problems(outcome: Spine, spines: Mapping[str, Spine]) -> Iterator[NodeProblem]:
    """Yield what does not fit between an outcome model and the spine that defines its label.

    Parameters
    ----------
    spines
        Those without errors of their own, by name.
    """
    yield from _column_problems(outcome)
    declared = outcome.outcome
    known = [name for name, spine in spines.items() if spine.outcome is None]
    if declared is None:
        return
    if declared.spine not in known:
        problem = f"meta.outcome.spine: no spine {declared.spine!r}"
        meant = did_you_mean(declared.spine, known)
        hint = f"choose one of {', '.join(known)}" if known else "write the spine first"
        yield NodeProblem((*_OUTCOME, "spine"), f"{problem}{meant}", hint)
        return
    spine = spines[declared.spine]
    yield from _label_problems(outcome, spine, declared.label)
    yield from _key_problems(outcome, spine)
    yield from _type_problems(outcome, spine)


def _column_problems(outcome: Spine) -> Iterator[NodeProblem]:
    for name, dtype in _SERVED.items():
        column = outcome.columns.get(name)
        if column is None:
            hint = "select it from the serving log, and describe it under columns"
            yield NodeProblem(("columns",), f"needs a column {name} of the serving log", hint)
        elif column.dtype != dtype:
            problem = f"column {name} is {column.dtype}, but {dtype} in the serving log"
            yield NodeProblem(("columns", name, "data_type"), problem, "do not cast it")


def _label_problems(outcome: Spine, spine: Spine, label: str) -> Iterator[NodeProblem]:
    if label not in spine.labels:
        problem = f"meta.outcome.label: {spine.name} has no label {label!r}"
        hint = f"choose one of {', '.join(spine.labels)}"
        yield NodeProblem(
            (*_OUTCOME, "label"), f"{problem}{did_you_mean(label, spine.labels)}", hint
        )
    elif label not in outcome.labels:
        problem = f"meta.labels does not have {label}, which meta.outcome names"
        hint = f"add `{label}: {format_duration(spine.labels[label])}`"
        yield NodeProblem(("config", "meta", "labels"), problem, hint)
    elif outcome.labels[label] != spine.labels[label]:
        here, there = (format_duration(each.labels[label]) for each in (outcome, spine))
        problem = f"meta.labels.{label} is {here}, but {there} in {spine.name} ({spine.file})"
        hint = "give both the window after which the label is decided"
        yield NodeProblem(("config", "meta", "labels", label), problem, hint)


def _key_problems(outcome: Spine, spine: Spine) -> Iterator[NodeProblem]:
    here, there = ({**each.entities, **each.roles} for each in (outcome, spine))
    if here != there:
        lines = ", ".join(f"{key}: {value}" for key, value in there.items())
        problem = f"meta.entities are not those of {spine.name} ({spine.file})"
        yield NodeProblem(("config", "meta", "entities"), problem, f"write `entities: {{{lines}}}`")


def _type_problems(outcome: Spine, spine: Spine) -> Iterator[NodeProblem]:
    """Yield the columns of both, keys, labels and request inputs, that are of two types."""
    for name, column in outcome.columns.items():
        other = spine.columns.get(name)
        if other is not None and column.dtype != other.dtype:
            problem = f"column {name} is {column.dtype}, but {other.dtype} in {spine.name}"
            hint = f"cast it to the type that {spine.file} declares"
            yield NodeProblem(("columns", name, "data_type"), f"{problem} ({spine.file})", hint)
