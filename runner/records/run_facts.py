"""What is read of MLflow's runs and registered versions, and how: without loading any model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import urlsplit

from contract import unknown_model
from contract.model_registry import local_folder
from runner.errors import RunnerError
from runner.failures import explain

CHAMPION = "champion"
CHALLENGER = "challenger"
PARENT = "mlflow.parentRunId"
"""MLflow's tag of a run below another, such as a trial of a tuning."""
RETIRED = "retired"
"""Tag of a model version whose features changed on purpose; its value is the reason."""


@dataclass(frozen=True)
class RunFacts:
    """A run: its tags, parameters and last metrics.

    Attributes
    ----------
    status
        MLflow's word: `FINISHED`, `FAILED`, `RUNNING` …
    artifact_uri
        Where its artifacts are.
    is_deleted
        Whether it is in MLflow's trash, which `mlflow gc` empties.
    started
        When it began, in UTC; None if MLflow does not say.
    """

    run_id: str
    experiment_id: str
    status: str
    artifact_uri: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    is_deleted: bool = False
    started: datetime | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Scorer → the score on test rows, of the recipe's scorers."""
        names = (name.removeprefix("train_") for name in self.metrics if name.startswith("train_"))
        return {
            name: self.metrics[f"test_{name}"]
            for name in sorted(names)
            if f"test_{name}" in self.metrics
        }


@dataclass(frozen=True)
class VersionFacts:
    """A version of a registered model; `aliases` are sorted."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)


class RunReader(Protocol):
    """Reads one tracking store; changes nothing and creates nothing."""

    def run(self, run_id: str) -> RunFacts | None:
        """Return the run, or None if there is none."""

    def runs(self, limit: int) -> list[RunFacts]:
        """Return the latest runs, the newest first, without deleted ones and trials of a tuning."""

    def models(self) -> list[str]:
        """Return the names of the registered models, sorted."""

    def versions(self, name: str) -> list[VersionFacts]:
        """Return the model's versions, the newest first; none if there is no such model."""

    def artifact(self, run: RunFacts, path: str) -> bytes:
        """Return the content of one file of the run's artifacts.

        Raises
        ------
        RunnerError
            If it is not there.
        """


def instant(milliseconds: int | str | None) -> datetime | None:
    """Return the time that MLflow writes as milliseconds since 1970."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


def not_registered(name: str, names: Sequence[str]) -> RunnerError:
    """Return the error for a model that is not among the registered `names`."""
    told = unknown_model.not_registered(name, names)
    return RunnerError(told.message, hint=told.hint)


def versions_filter(name: str) -> str:
    """Return MLflow's filter for the versions of a model; it knows no escape, but both quotes."""
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"


def with_alias(versions: Iterable[VersionFacts], alias: str) -> VersionFacts | None:
    """Return the version with the alias; None if none has it."""
    return next((version for version in versions if alias in version.aliases), None)


def require_run(reader: RunReader, version: VersionFacts) -> RunFacts:
    """Return the run that trained a version.

    Raises
    ------
    RunnerError
        If it is deleted, or MLflow no longer has it.
    """
    run = reader.run(version.run_id)
    if run is None:
        raise run_missing(version.name, version.version, version.run_id)
    if run.is_deleted:
        raise run_deleted(version.name, version.version, version.run_id)
    return run


def run_missing(name: str, version: str, run_id: str | None) -> RunnerError:
    """Return the error for a version whose run MLflow does not have."""
    return RunnerError(
        f"the run of {name} version {version}, {run_id}, is not in MLflow",
        hint="train and promote another",
    )


def run_deleted(name: str, version: str, run_id: str | None) -> RunnerError:
    """Return the error for a version whose run is in MLflow's trash."""
    return RunnerError(
        f"the run of {name} version {version} is deleted: `mlflow gc` would remove its rows, "
        "recipe and model",
        hint=f"`mlflow runs restore --run-id {run_id}`, or train and promote another",
    )


def stored_file(run: RunFacts, path: str) -> bytes:
    """Return one file of the run's artifacts on this machine or, by MLflow's client, elsewhere.

    Raises
    ------
    RunnerError
        If it is not there, or what reads that store is not installed.
    """
    try:
        if urlsplit(run.artifact_uri).scheme in {"", "file"}:
            return (local_folder(run.artifact_uri) / path).read_bytes()
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
    except OSError as err:
        raise no_artifact(run, path) from err
    with TemporaryDirectory() as folder:
        try:
            uri = f"{run.artifact_uri.rstrip('/')}/{path}"
            return Path(download_artifacts(artifact_uri=uri, dst_path=folder)).read_bytes()
        except ImportError as err:  # the store's client is missing, not the file
            raise explain(err) or no_artifact(run, path) from err
        except (MlflowException, OSError) as err:
            raise no_artifact(run, path) from err


def no_artifact(run: RunFacts, path: str) -> RunnerError:
    """Return the error for a file that the run does not have."""
    return RunnerError(
        f"run {run.run_id} has no artifact {path}",
        hint="name a run of `runner train` whose artifacts are still there",
    )
