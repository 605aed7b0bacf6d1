"""An MLflow server, read through its REST API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from contract.mlflow_http import MlflowServer
from contract.serving_errors import BundleError
from runner.records.run_facts import (
    PARENT,
    RunFacts,
    VersionFacts,
    instant,
    no_artifact,
    stored_file,
    versions_filter,
)

_PAGE = "100"


class HttpReader:
    """An MLflow server: its REST API, and its proxy for artifacts."""

    def __init__(self, server: MlflowServer) -> None:
        self._server = server

    def run(self, run_id: str) -> RunFacts | None:
        """See `RunReader`."""
        found = self._server.get("runs/get", run_id=run_id)
        return None if found is None else _facts(found["run"])

    def runs(self, limit: int) -> list[RunFacts]:
        """See `RunReader`."""
        pages = self._pages("experiments/search")
        experiments = [
            one["experiment_id"] for page in pages for one in page.get("experiments", ())
        ]
        found: list[RunFacts] = []
        token = ""
        while experiments and len(found) < limit:
            page = self._server.search(
                "runs/search",
                {
                    "experiment_ids": experiments,
                    "order_by": ["attributes.start_time DESC"],
                    "max_results": int(_PAGE),
                    **({"page_token": token} if token else {}),
                },
            )
            facts = (_facts(run) for run in page.get("runs", ()))
            found += [run for run in facts if PARENT not in run.tags]
            token = page.get("next_page_token", "")
            if not token:
                break
        return found[:limit]

    def models(self) -> list[str]:
        """See `RunReader`."""
        pages = self._pages("registered-models/search")
        return sorted(each["name"] for page in pages for each in page.get("registered_models", ()))

    def versions(self, name: str) -> list[VersionFacts]:
        """See `RunReader`."""
        model = (self._server.get("registered-models/get", name=name) or {}).get("registered_model")
        if model is None:
            return []
        aliases = sorted((each["alias"], str(each["version"])) for each in model.get("aliases", ()))
        pages = self._pages("model-versions/search", filter=versions_filter(name))
        found = [each for page in pages for each in page.get("model_versions", ())]
        return [
            VersionFacts(
                name,
                str(each["version"]),
                each.get("run_id", ""),
                tuple(alias for alias, to in aliases if to == str(each["version"])),
                _pairs(each.get("tags")),
            )
            for each in sorted(found, key=lambda each: -int(each["version"]))
        ]

    def artifact(self, run: RunFacts, path: str) -> bytes:
        """See `RunReader`."""
        parts = urlsplit(run.artifact_uri)
        if parts.scheme != "mlflow-artifacts":
            return stored_file(run, path)
        try:
            return self._server.read(f"{parts.path.strip('/')}/{path}")
        except BundleError as err:
            raise no_artifact(run, path) from err

    def _pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            wanted = {**query, "max_results": _PAGE, **({"page_token": token} if token else {})}
            page = self._server.get(path, **wanted) or {}
            yield page
            token = page.get("next_page_token", "")
            if not token:
                return


def _pairs(listed: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in listed or ()}


def _facts(run: Mapping[str, Any]) -> RunFacts:
    info, data = run["info"], run["data"]
    return RunFacts(
        run_id=info["run_id"],
        experiment_id=str(info["experiment_id"]),
        status=info["status"],
        artifact_uri=info["artifact_uri"],
        tags=_pairs(data.get("tags")),
        params=_pairs(data.get("params")),
        metrics={each["key"]: float(each["value"]) for each in data.get("metrics", ())},
        is_deleted=info.get("lifecycle_stage") == "deleted",
        started=instant(info.get("start_time")),
    )
