"""MLflow's SQLite file, read with the standard library."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.records.run_facts import PARENT, RunFacts, VersionFacts, instant, stored_file


class SqliteReader:
    """MLflow's SQLite file. A file that is not there has no models: it is not created."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    def run(self, run_id: str) -> RunFacts | None:
        """See `RunReader`."""
        found = self._rows(
            "select run_uuid, experiment_id, status, artifact_uri, lifecycle_stage, start_time "
            "from runs where run_uuid = ?",
            run_id,
        )
        if not found:
            return None
        number, experiment, status, uri, stage, start = found[0]
        metrics = self._rows(
            "select key, value, is_nan from latest_metrics where run_uuid = ?", run_id
        )
        return RunFacts(
            run_id=number,
            experiment_id=str(experiment),
            status=status,
            artifact_uri=uri,
            tags=dict(self._rows("select key, value from tags where run_uuid = ?", run_id)),
            params=dict(self._rows("select key, value from params where run_uuid = ?", run_id)),
            metrics={key: float("nan") if nan else float(value) for key, value, nan in metrics},
            is_deleted=stage == "deleted",
            started=instant(start),
        )

    def runs(self, limit: int) -> list[RunFacts]:
        """See `RunReader`."""
        found = self._rows(
            "select run_uuid from runs where lifecycle_stage = 'active' and run_uuid not in "
            "(select run_uuid from tags where key = ?) order by start_time desc limit ?",
            PARENT,
            limit,
        )
        return [run for (run_id,) in found if (run := self.run(run_id)) is not None]

    def models(self) -> list[str]:
        """See `RunReader`."""
        return [name for (name,) in self._rows("select name from registered_models order by name")]

    def versions(self, name: str) -> list[VersionFacts]:
        """See `RunReader`."""
        aliases = self._rows(
            "select version, alias from registered_model_aliases where name = ? order by alias",
            name,
        )
        versions = self._rows(
            "select version, run_id from model_versions "
            "where name = ? and current_stage <> 'Deleted_Internal' order by version desc",
            name,
        )
        named = {number: tuple(a for to, a in aliases if to == number) for number, _ in versions}
        tags: dict[int, dict[str, str]] = {number: {} for number, _ in versions}
        for number, key, value in self._rows(
            "select version, key, value from model_version_tags where name = ?", name
        ):
            tags.setdefault(number, {})[key] = value
        return [
            VersionFacts(name, str(number), run_id or "", named[number], tags[number])
            for number, run_id in versions
        ]

    def artifact(self, run: RunFacts, path: str) -> bytes:
        """See `RunReader`."""
        return stored_file(run, path)

    def _rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        if not self._path.is_file():
            return []
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as database:
                return database.execute(query, values).fetchall()
        except sqlite3.Error as err:
            raise RunnerError(
                f"{self._path}: MLflow's database cannot be read ({err})",
                hint="check MLFLOW_TRACKING_URI; if MLflow wrote it long ago, run "
                f"`mlflow db upgrade sqlite:///{self._path}`",
            ) from err
