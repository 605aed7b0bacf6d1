"""The story of `runner release`: a new revision of every API, without a gap, and back.

All APIs run one image, so they are released together. How requests are shared is a setting of the
Pulumi program, which `pulumi up` carries out: Pulumi's state is true at every step, and a release
that was interrupted begins again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runner import console
from runner.commands.cloud.cloud_tools import run_tool
from runner.commands.cloud.released_stack import ReleasedStack, TrafficShare
from runner.duration import option_duration
from runner.errors import RunnerError

_TRIAL_SHARE = 10
"""Percent of the requests that the new revision gets before it gets all."""


@dataclass(frozen=True)
class Released:
    """The revision of one API that answers now, and the one that answered before."""

    api: str
    revision: str
    before: str


def release(stack: ReleasedStack, watch: str) -> list[Released]:
    """Deploy the project as it is, and send requests to it step by step.

    Parameters
    ----------
    watch
        How long the new revisions get a small share before they get all requests, such as `5m`.

    Raises
    ------
    RunnerError
        If a new revision does not start, fails its smoke test or answers with a server error. The
        stable revisions then get every request.
    """
    duration = option_duration("--watch", watch, "5m")
    before, since = stack.releases, datetime.now(UTC)
    stable = _stable(stack)
    _share(stack, _shares(stable, 0))
    newest = _revisions(stack)
    if newest == stable:
        _share(stack, before)
        return []
    try:
        _smoke_test(stack)
        _share(stack, _shares(stable, _TRIAL_SHARE))
        with console.step(f"watch the new revisions for {watch}"):
            time.sleep(duration.total_seconds())
        _smoke_test(stack)
        _require_no_errors(stack, newest, since)
        _share(stack, _shares(stable, 100))
    except KeyboardInterrupt:
        _share(stack, _shares(stable, 0))
        raise
    except RunnerError as err:
        raise _returned(stack, stable, err) from err
    return [Released(api, newest[api], stable[api]) for api in stack.apis]


def roll_back(stack: ReleasedStack) -> list[Released]:
    """Send every request to the revisions that answered before the last release.

    Raises
    ------
    RunnerError
        If there was no release.
    """
    if not stack.releases:
        raise RunnerError(
            f"{stack.path}: releases has no revision to return to",
            hint="check out the previous commit and run `runner release`",
        )
    newest = _revisions(stack)
    stable = {api: one.stable for api, one in stack.releases.items()}
    _share(stack, _shares(stable, 0))
    return [Released(api, revision, newest[api]) for api, revision in stable.items()]


def _stable(stack: ReleasedStack) -> dict[str, str]:
    """Return the revision of each API that answers now: what a release returns to."""
    newest = _revisions(stack)
    shared = {api: one.stable for api, one in stack.releases.items() if one.share < 100}
    return {api: shared.get(api) or newest[api] for api in stack.apis}


def _revisions(stack: ReleasedStack) -> Mapping[str, str]:
    """Return the newest revision of each API, by Pulumi's state."""
    outputs = json.loads(
        run_tool(stack.folder, "pulumi", "stack", "output", "--json", "--stack", stack.name)
    )
    found = {api: str(outputs.get(f"revision_{api}") or "") for api in stack.apis}
    absent = [api for api, revision in found.items() if not revision]
    if absent:
        raise RunnerError(
            f"stack {stack.name} has no API {absent[0]} yet",
            hint="run `pulumi up` in deploy/: its first revision gets every request",
        )
    # Cloud Run's API may name it projects/…/revisions/<name>.
    return {api: revision.rpartition("/")[2] for api, revision in found.items()}


def _shares(stable: Mapping[str, str], share: int) -> dict[str, TrafficShare]:
    return {api: TrafficShare(stable=name, share=share) for api, name in stable.items()}


def _share(stack: ReleasedStack, releases: Mapping[str, TrafficShare]) -> None:
    """Write who gets which share, and have Pulumi carry it out."""
    stack.share(releases)
    shown = ", ".join(f"{api} {one.share} %" for api, one in releases.items())
    with console.step(f"pulumi up, requests to the newest revision: {shown or '100 %'}"):
        run_tool(stack.folder, "pulumi", "up", "--yes", "--skip-preview", "--stack", stack.name)


def _returned(stack: ReleasedStack, stable: Mapping[str, str], err: RunnerError) -> RunnerError:
    """Return to the stable revisions; return what to raise for `err`."""
    try:
        _share(stack, _shares(stable, 0))
    except RunnerError as failed:
        return RunnerError(
            f"{err.message}; and then {failed.message}", hint="run `runner release --rollback`"
        )
    names = ", ".join(stable.values())
    return RunnerError(f"{err.message}; every request goes to {names} again", hint=err.hint)


def _smoke_test(stack: ReleasedStack) -> None:
    """Run the job of each API that asks its newest revision."""
    for api in stack.apis:
        with console.step(f"smoke test of {api}"):
            run_tool(
                stack.folder,
                *("gcloud", "run", "jobs", "execute", f"smoke-{api}", "--wait"),
                *(f"--region={stack.region}", f"--project={stack.project}"),
            )


def _require_no_errors(stack: ReleasedStack, newest: Mapping[str, str], since: datetime) -> None:
    """Raise if a new revision answered any request since then with a server error."""
    for revision in newest.values():
        wanted = (
            f'resource.type="cloud_run_revision" AND resource.labels.revision_name="{revision}" '
            f'AND httpRequest.status>=500 AND timestamp>="{since:%Y-%m-%dT%H:%M:%SZ}"'
        )
        found = run_tool(
            stack.folder,
            *("gcloud", "logging", "read", wanted, "--limit=1"),
            *("--format=value(httpRequest.status)", f"--project={stack.project}"),
        )
        if found.strip():
            raise RunnerError(
                f"{revision} answered a request with {found.strip()}",
                hint=f"read its log: gcloud logging read '{wanted}'",
            )
