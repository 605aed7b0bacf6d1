"""Runs and registered versions by MLflow's own client, for stores that only it can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from runner.records import registry
from runner.records.run_facts import PARENT, RunFacts, VersionFacts, instant, stored_file

if TYPE_CHECKING:
    from mlflow.entities import Run

    from runner.settings import Settings

_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class ClientReader:
    """See `RunReader`."""

    def __init__(self, settings: Settings) -> None:
        self._client = registry.connect(settings)

    def run(self, run_id: str) -> RunFacts | None:
        """See `RunReader`."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as err:
            if err.error_code not in _UNKNOWN:
                raise
            return None
        return _facts(run)

    def runs(self, limit: int) -> list[RunFacts]:
        """See `RunReader`."""
        experiments = [each.experiment_id for each in self._client.search_experiments()]
        found: list[RunFacts] = []
        token: str | None = None
        while experiments and len(found) < limit:
            page = self._client.search_runs(
                experiments, order_by=["attributes.start_time DESC"], page_token=token
            )
            found += [_facts(run) for run in page if PARENT not in run.data.tags]
            token = page.token
            if not token:
                break
        return found[:limit]

    def models(self) -> list[str]:
        """See `RunReader`."""
        return sorted(model.name for model in self._client.search_registered_models())

    def versions(self, name: str) -> list[VersionFacts]:
        """See `RunReader`."""
        try:
            aliases = self._client.get_registered_model(name).aliases
        except MlflowException as err:
            if err.error_code not in _UNKNOWN:
                raise
            return []
        return [
            VersionFacts(
                name,
                str(each.version),
                each.run_id or "",
                tuple(sorted(a for a, to in aliases.items() if str(to) == str(each.version))),
                dict(each.tags),
            )
            for each in registry.versions_of(self._client, name)
        ]

    def artifact(self, run: RunFacts, path: str) -> bytes:
        """See `RunReader`."""
        return stored_file(run, path)


def _facts(run: Run) -> RunFacts:
    info, data = run.info, run.data
    return RunFacts(
        info.run_id,
        str(info.experiment_id),
        info.status,
        info.artifact_uri,
        data.tags,
        data.params,
        data.metrics,
        info.lifecycle_stage == "deleted",
        instant(info.start_time),
    )
