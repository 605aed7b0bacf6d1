"""`runner models` and `runner runs`: what is registered, and what was trained last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.records.run_facts import RunFacts, VersionFacts
from runner.records.run_reader import open_reader, require_registered

if TYPE_CHECKING:
    from runner.settings import Settings


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, with the run that trained it if MLflow still has it."""

    version: VersionFacts
    run: RunFacts | None


def registered_versions(settings: Settings, name: str | None) -> list[RegisteredVersion]:
    """Return every version of the model, or of all models; of each model the newest first.

    Raises
    ------
    RunnerError
        If no model of that name is registered.
    """
    reader = open_reader(settings)
    if name is not None:
        require_registered(reader, name)
    names = reader.models() if name is None else [name]
    versions = [version for each in names for version in reader.versions(each)]
    return [RegisteredVersion(version, reader.run(version.run_id)) for version in versions]


def latest_runs(settings: Settings, limit: int) -> list[RunFacts]:
    """Return the latest runs, the newest first; the trials of a tuning are not among them."""
    return open_reader(settings).runs(limit)
