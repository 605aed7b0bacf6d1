"""Find the run that a user names."""

from __future__ import annotations

import re

from runner.errors import RunnerError
from runner.records.run_facts import RunFacts, RunReader, VersionFacts
from runner.records.run_reader import require_registered

_VERSION = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<number>\d+))")
_RUN_ID = re.compile("[0-9a-f]{32}")


def find_run(reader: RunReader, reference: str) -> RunFacts:
    """Return the run of `NAME@ALIAS`, `NAME/VERSION` or a run's id.

    Raises
    ------
    RunnerError
        If there is none.
    """
    wanted = _VERSION.fullmatch(reference)
    if wanted is None and _RUN_ID.fullmatch(reference) is None:
        raise RunnerError(
            f"{reference!r} is neither a model's version nor a run",
            hint="write NAME@champion, NAME/VERSION or a run's id of 32 digits",
        )
    if wanted is None:
        run, versions = reader.run(reference), []
    else:
        require_registered(reader, wanted["name"])
        versions = reader.versions(wanted["name"])
        run = _run_of(reader, versions, wanted["alias"] or "", wanted["number"] or "")
    if run is None:
        raise RunnerError(f"MLflow has no {reference}", hint=_instead(versions))
    return run


def _run_of(
    reader: RunReader, versions: list[VersionFacts], alias: str, number: str
) -> RunFacts | None:
    for version in versions:
        if alias in version.aliases or (number and int(version.version) == int(number)):
            return reader.run(version.run_id)
    return None


def _instead(versions: list[VersionFacts]) -> str:
    """Return what there is of a registered model."""
    if not versions:
        return "`runner ui` shows every run"
    return f"there is {', '.join(f'{one.name}/{one.version}' for one in versions[:5])}"
