"""What came of a dbt invocation, by its artifacts: results, or one error that names the cause."""

from __future__ import annotations

import json
import re
from typing import NotRequired, TypedDict

from runner.bytes_billed import refusal
from runner.errors import RunnerError
from runner.project.dbt_messages import TWO_WRITERS, database_error, essence
from runner.project.dbt_process import DbtEvents
from runner.project.manifest_file import parents_of, read_manifest
from runner.settings import Settings

_NO_PROFILE = re.compile(r"--profiles-dir|Could not find profile")
_UNIT_TEST_OF_NOTHING = re.compile(r"Unable to find model '[\w.]*?(\w+)' for unit test .* in (\S+)")
_FAILED = {"error", "fail", "runtime error"}
_GOOD = {"success", "pass", "warn", "no-op"}


class AdapterResponse(TypedDict, total=False):
    """What the warehouse said of a statement; bytes only on BigQuery."""

    bytes_billed: int | None
    bytes_processed: int | None


class DbtResult(TypedDict):
    """What came of a node."""

    unique_id: str
    status: str
    message: NotRequired[str | None]
    adapter_response: AdapterResponse


class OtherDbtError(RunnerError):
    """Another dbt builds the same tables."""


class FailedNodesError(RunnerError):
    """Some nodes failed, and those below them were skipped; dbt ran all others.

    Attributes
    ----------
    failed
        The unique ids of both.
    """

    def __init__(self, error: RunnerError, failed: frozenset[str]) -> None:
        super().__init__(error.message, hint=error.hint)
        self.failed = failed


def dbt_results(settings: Settings, invocation_id: str) -> list[DbtResult]:
    """Return what dbt wrote to `run_results.json`; nothing if another invocation wrote it."""
    path = settings.root / "target" / "run_results.json"
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_bytes())
    except ValueError:  # a part of it: another dbt is writing, or this one was killed meanwhile
        return []
    if content["metadata"]["invocation_id"] != invocation_id:
        return []
    results: list[DbtResult] = content["results"]
    return results


def dbt_failure(settings: Settings, arguments: list[str], events: DbtEvents) -> RunnerError:
    """Return the error of a dbt that failed: its first node that did, else what it said."""
    command = f"dbt {' '.join(arguments)}"
    results = dbt_results(settings, events.invocation_id)
    for result in results:
        if result["status"] in _FAILED:
            error = _node_failure(settings, result)
            left = {each["unique_id"] for each in results if each["status"] not in _GOOD}
            # A hook that failed may have kept dbt from all others.
            if isinstance(error, OtherDbtError) or any(map(_is_hook, left)):
                return error
            return FailedNodesError(error, frozenset(left))
    # A usage error is plain text, and its reason the last line.
    usage = (line for line in events.errors if line.startswith("Error: "))
    message = next(usage, events.errors[0] if events.errors else "no reason given")
    if TWO_WRITERS.search(message):
        return _two_writers(f"dbt {arguments[0]}", message)
    if known := _project_error(settings, message):
        return known
    return RunnerError(
        f"dbt {arguments[0]} failed: {essence(message)}",
        hint=f"correct it and try `{command} --target {settings.target}` until it passes; "
        "logs/dbt.log has all that dbt said",
    )


def _is_hook(unique_id: str) -> bool:
    return unique_id.startswith("operation.")


def _project_error(settings: Settings, message: str) -> RunnerError | None:
    """Return what is behind two messages of dbt that name something else."""
    profiles = settings.root / "profiles.yml"
    if _NO_PROFILE.search(message) and not profiles.is_file():
        hint = f"in {settings.root} run `ln -s profiles/profiles.yml profiles.yml`"
        return RunnerError(f"{profiles}: no such file, and dbt has no other profile", hint=hint)
    if untold := _UNIT_TEST_OF_NOTHING.search(message):
        name, file = untold.groups()
        return RunnerError(
            f"{file} describes the dbt model {name}, and there is no {name}.sql",
            hint="write that file, or give the SQL and the YAML one name",
        )
    return None


def _node_failure(settings: Settings, result: DbtResult) -> RunnerError:
    content = read_manifest(settings.manifest_path)
    node = {**content["nodes"], **content.get("unit_tests", {})}[result["unique_id"]]
    kind = {"model": "dbt model", "test": "dbt test", "unit_test": "dbt unit test"}.get(
        node["resource_type"], node["resource_type"]
    )
    message = result.get("message") or ""
    file = node["original_file_path"]
    what = f"{file}: {kind} {node['name']}"
    if limit := refusal(what, message):
        return limit
    if TWO_WRITERS.search(message):
        return _two_writers(what, message, file)
    sql = node.get("build_path") or node.get("compiled_path")
    more = f"its SQL is in {sql}" if sql else "logs/dbt.log has all that dbt said"
    told, name = essence(message, file), node["name"]
    if node["resource_type"] == "unit_test" and (refused := database_error(message)):
        # A dbt model's unit tests run before it, so they meet a mistake in its SQL first.
        more = f"if its SQL is right, correct what {what} gives it"
        model = content["nodes"][parents_of(node)[0]]
        told, name = refused, model["name"]
        what = f"{model['original_file_path']}: dbt model {name}"
    return RunnerError(
        f"{what}: {told}",
        hint=f"correct it and run `dbt build --select {name} --target {settings.target}`; {more}",
    )


def _two_writers(what: str, message: str, file: str = "") -> OtherDbtError:
    return OtherDbtError(
        f"{what}: another dbt builds the same tables: {essence(message, file)}",
        hint="wait until it has ended, then run the same command again; if there is none, "
        "`runner check` lists dbt models whose names begin alike",
    )
