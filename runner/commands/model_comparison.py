"""Two trained models side by side: scores, features, data and parameters."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from runner.errors import RunnerError
from runner.records import tracking

if TYPE_CHECKING:
    from runner.settings import Settings

_VERSION = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")
_RUN_ID = re.compile("[0-9a-f]{32}")
_DATA = ("spine_from", "spine_to", "dataset_sha256", "git_commit", "dbt_manifest_sha256")
_PERIODS = ("train_until", "test_from")
# Keys of the recipe that other lines tell of, or that decide nothing.
_TOLD_ELSEWHERE = frozenset({"description", "estimator", "features"})
_DIGEST = re.compile("([0-9a-f]{12})[0-9a-f]{20,52}")


@dataclass(frozen=True)
class Row:
    """One property of both; None where a model does not have it."""

    group: str
    name: str
    a: Any
    b: Any

    @property
    def differs(self) -> bool:
        """Whether the two have different values."""
        return bool(self.a != self.b)


def compare(settings: Settings, a: str, b: str) -> list[Row]:
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
    client = tracking.connect(settings)
    one, two = (_properties(client, reference) for reference in (a, b))
    keys = dict.fromkeys([*one, *two])
    order = {group: i for i, group in enumerate(dict.fromkeys(group for group, _ in keys))}
    return [
        Row(group, name, one.get((group, name)), two.get((group, name)))
        for group, name in sorted(keys, key=lambda key: order[key[0]])
    ]


def table(rows: Sequence[Row]) -> tuple[list[list[str]], str]:
    """Return the cells of every metric and of all that differs, and a line about the rest."""
    equal = Counter(row.group for row in rows if not row.differs and row.group != "metrics")
    told = ", ".join(f"{group} {count}" for group, count in equal.items())
    cells = [
        [row.group, row.name, "≠" if row.differs else "", _shown(row.a), _shown(row.b)]
        for row in rows
        if row.differs or row.group == "metrics"
    ]
    return cells, f"the same in both: {told}; --json has them" if told else ""


def find_run(client: MlflowClient, reference: str) -> Run:
    """Return the run of `NAME@ALIAS`, `NAME/VERSION` or a run's id.

    Raises
    ------
    RunnerError
        If there is none.
    """
    version = _VERSION.fullmatch(reference)
    if version is None and _RUN_ID.fullmatch(reference) is None:
        raise RunnerError(
            f"{reference!r} is neither a model's version nor a run",
            hint="write NAME@champion, NAME/VERSION or a run's id of 32 digits",
        )
    try:
        if version is None:
            return client.get_run(reference)
        tracking.require_model(client, version["name"])
        if version["alias"]:
            found = client.get_model_version_by_alias(version["name"], version["alias"])
        else:
            found = client.get_model_version(version["name"], version["number"])
        return client.get_run(found.run_id)
    except MlflowException as err:
        if err.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise RunnerError(
            f"MLflow has no {reference}",
            hint=_instead(client, version["name"] if version else ""),
        ) from err


def _instead(client: MlflowClient, name: str) -> str:
    """Return what there is of a registered model."""
    asked = name and "'" not in name  # which would end the filter's text
    found = client.search_model_versions(f"name = '{name}'") if asked else []
    if not found:
        return "look with `mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db`"
    numbers = sorted((int(each.version) for each in found), reverse=True)[:5]
    return f"there is {', '.join(f'{name}/{number}' for number in numbers)}"


def _properties(client: MlflowClient, reference: str) -> dict[tuple[str, str], Any]:
    """Return (group, name) → value of one model, in the order of the table."""
    run = find_run(client, reference)
    tags, params = run.data.tags, run.data.params
    periods = {name: params.get(name) for name in _PERIODS}
    parameters = {name: value for name, value in params.items() if name not in _PERIODS}
    served = _serving_json(client, run, reference)
    groups: dict[str, dict[str, Any]] = {
        "run": {"id": run.info.run_id, "recipe": tags.get("recipe"), "gate": tags.get("gate")},
        "metrics": dict(sorted(run.data.metrics.items())),
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


def _serving_json(client: MlflowClient, run: Run, reference: str) -> dict[str, Any]:
    if run.info.status != "FINISHED":
        raise RunnerError(
            f"run {run.info.run_id} of {reference} did not finish ({run.info.status})",
            hint="compare runs that were recorded to their end",
        )
    with TemporaryDirectory() as folder:
        path = client.download_artifacts(run.info.run_id, "serving_bundle/serving.json", folder)
        content: dict[str, Any] = json.loads(Path(path).read_bytes())
    return content


def _shown(value: object) -> str:
    """Return the value as it stands in the table: of digests and ids the first 12 digits."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return _DIGEST.sub(r"\1", str(value))
