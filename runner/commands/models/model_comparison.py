"""Two trained models side by side: scores, features, data and parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner import console
from runner.errors import RunnerError
from runner.failures import explain
from runner.records.find_run import find_run
from runner.records.run_facts import RunFacts, RunReader
from runner.records.run_reader import open_reader, read_json

if TYPE_CHECKING:
    from runner.settings import Settings

_DATA = ("spine_from", "spine_to", "dataset_sha256", "git_commit", "dbt_manifest_sha256")
PLOTS = (
    *("roc", "precision_recall", "calibration", "scores", "confusion_matrix"),
    *("predictions", "residuals", "importance"),
)
"""The names of all plots; a run has those of its task."""
_PERIODS = ("train_until", "test_from")
# Keys of the recipe that other lines tell of, or that decide nothing.
_TOLD_ELSEWHERE = frozenset({"description", "estimator", "features"})


@dataclass(frozen=True)
class ComparedProperty:
    """One property of both; None where a model does not have it."""

    group: str
    name: str
    a: Any
    b: Any

    @property
    def differs(self) -> bool:
        """Whether the two have different values."""
        return bool(self.a != self.b)


def compare(settings: Settings, a: str, b: str) -> list[ComparedProperty]:
    """Return what two trained models have in common and what not.

    Parameters
    ----------
    a, b
        Each `NAME@ALIAS`, `NAME/VERSION` or the id of a run.

    Raises
    ------
    RunnerError
        If one of them does not exist, or its run was not recorded to its end.
    """
    reader = open_reader(settings)
    runs = [find_run(reader, reference) for reference in (a, b)]
    served = [_serving_json(reader, run, name) for run, name in zip(runs, (a, b), strict=True)]
    one, two = (_properties(*each) for each in zip(runs, served, strict=True))
    live = _live(settings, reader, runs, served)
    one, two = one | live[0], two | live[1]
    keys = dict.fromkeys([*one, *two])
    order = {group: i for i, group in enumerate(dict.fromkeys(group for group, _ in keys))}
    return [
        ComparedProperty(group, name, one.get((group, name)), two.get((group, name)))
        for group, name in sorted(keys, key=lambda key: order[key[0]])
    ]


def compared_plots(settings: Settings, a: str, b: str) -> dict[str, list[bytes | None]]:
    """Return plot → both models' PNGs, of every plot that either has; None: this one has none."""
    reader = open_reader(settings)
    runs = [find_run(reader, reference) for reference in (a, b)]
    found = {name: [_plot(reader, run, name) for run in runs] for name in PLOTS}
    return {name: both for name, both in found.items() if any(both)}


def _plot(reader: RunReader, run: RunFacts, name: str) -> bytes | None:
    try:
        return reader.artifact(run, f"plots/{name}.png")
    except RunnerError:  # another task, or an earlier version
        return None


def _properties(run: RunFacts, served: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Return (group, name) → value of one model, in the order of the table."""
    tags, params = run.tags, run.params
    periods = {name: params.get(name) for name in _PERIODS}
    parameters = {name: value for name, value in params.items() if name not in _PERIODS}
    groups: dict[str, dict[str, Any]] = {
        "run": {
            "id": run.run_id,
            "recipe": tags.get("recipe"),
            "gate": tags.get("gate"),
            "beside its champion": tags.get("champion_comparison"),
        },
        "metrics": dict(sorted(run.metrics.items())),
        "features": dict.fromkeys(served["lineage"]["features"], "yes"),
        "data": {**{name: tags.get(name) for name in _DATA}, **periods},
        "parameters": dict(sorted(parameters.items())),
        "recipe": {
            key: json.dumps(value)
            for key, value in served["recipe"].items()
            if key not in _TOLD_ELSEWHERE
        },
    }
    return {(group, name): value for group, part in groups.items() for name, value in part.items()}


def _live(
    settings: Settings,
    reader: RunReader,
    runs: Sequence[RunFacts],
    served: Sequence[Mapping[str, Any]],
) -> list[dict[tuple[str, str], Any]]:
    """Return (group, name) → value of both on live labels, if one was the other's shadow."""
    name, other = (each["registered_model_name"] for each in served)
    known = {one.run_id: one.version for one in reader.versions(name)}
    numbers = [known.get(run.run_id) for run in runs]
    if name != other or None in numbers or numbers[0] == numbers[1]:
        return [{}, {}]
    from runner.commands.models.live_beside import live_comparison
    from runner.monitoring.shadow_days import ShadowVersion

    pairs = zip(map(str, numbers), served, strict=True)
    try:
        found = live_comparison(settings, [ShadowVersion.of(*pair) for pair in pairs])
    except Exception as err:  # a driver's too: the other rows need no warehouse
        if (problem := explain(err)) is None:
            raise
        console.note(f"not compared on live labels: {problem.message}")
        return [{}, {}]
    return [{}, {}] if found is None else [found.properties(str(each)) for each in numbers]


def _serving_json(reader: RunReader, run: RunFacts, reference: str) -> dict[str, Any]:
    if run.status != "FINISHED":
        raise RunnerError(
            f"run {run.run_id} of {reference} did not finish ({run.status})",
            hint="compare runs that were recorded to their end",
        )
    return read_json(reader, run, "serving_bundle/serving.json")
