"""What `runner refresh` left: its last rounds, and the state of the tables that it built from.

In Redis, so that it survives the process and is there for jobs without a disk of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from contract.refresh_times import DONE, FAILED, refresh_key
from runner.online.connection import OnlineConnection

_NEWEST, _COMPARED = "newest", "compared"


@dataclass(frozen=True)
class BuiltFrom:
    """The project and the sources that marts were last built from.

    Attributes
    ----------
    project
        The project's fingerprint; None: not known.
    marks
        Source table → its mark before the build.
    """

    project: str | None
    marks: Mapping[str, str]

    def covers(self, project: str | None, marks: Mapping[str, str]) -> bool:
        """Return whether at most rows have changed since: the project is the same, no table is new.

        A view that was built before its table was there may read nothing: it is built again.
        """
        return project is not None and project == self.project and {*marks} <= {*self.marks}


@dataclass(frozen=True)
class RefreshTimes:
    """When rounds ended, in UTC.

    Attributes
    ----------
    done
        The last one that succeeded; None: none has.
    failed
        The last one that did not, and why; None: the last one succeeded.
    newest
        The newest event time of the features it refreshed.
    compared
        When the view that was compared the longest ago was compared with its mart; None: the last
        round compared all.
    """

    done: datetime | None
    failed: tuple[datetime, str] | None
    newest: datetime | None
    compared: datetime | None = None

    def lag(self) -> str:
        """Return how old the features are, and the last round; empty: there was none."""
        now = datetime.now(UTC)
        parts = []
        if self.newest:
            parts.append(f"features from {ago(now, self.newest)}")
        if self.compared:
            parts.append(f"all compared {ago(now, self.compared)}")
        if self.done:
            parts.append(f"last round {ago(now, self.done)}")
        if self.failed:
            at, why = self.failed
            parts.append(f"failed {ago(now, at)}: {why}")
        return ", ".join(parts)


class RefreshState:
    """What rounds have left for one Feast project."""

    def __init__(self, connection: OnlineConnection, project: str) -> None:
        self._client = connection.client
        self._key = refresh_key(project)

    def built_from(self, marts: str) -> BuiltFrom | None:
        """Return what these marts were last built from; None: not known."""
        content = self._client.hget(self._key, self._field(marts))
        return BuiltFrom(**json.loads(content)) if content else None

    def note_built(self, marts: str, built: BuiltFrom | None) -> None:
        """Keep what these marts are built from; None: forget it, so that they are built again."""
        if built is None:
            self._client.hdel(self._key, self._field(marts))
        else:
            self._client.hset(self._key, self._field(marts), json.dumps(asdict(built)))

    def note_done(self, newest: datetime | None, compared: datetime | None) -> None:
        """Keep that a round succeeded, and the newest event time, if that is known.

        `compared` is that of `RefreshTimes`.
        """
        instants = {DONE: datetime.now(UTC), _NEWEST: newest, _COMPARED: compared}
        known = {name: instant.isoformat() for name, instant in instants.items() if instant}
        self._client.hdel(self._key, FAILED, *([] if compared else [_COMPARED]))
        self._client.hset(self._key, mapping=known)

    def note_failed(self, why: str) -> None:
        """Keep that a round failed."""
        self._client.hset(self._key, FAILED, json.dumps([datetime.now(UTC).isoformat(), why]))

    def times(self) -> RefreshTimes:
        """Return when rounds ended."""
        raw: dict[bytes, bytes] = self._client.hgetall(self._key)
        failed: list[Any] | None = json.loads(raw.get(FAILED.encode(), b"null"))
        return RefreshTimes(
            _instant(raw.get(DONE.encode())),
            (datetime.fromisoformat(failed[0]), failed[1]) if failed else None,
            _instant(raw.get(_NEWEST.encode())),
            _instant(raw.get(_COMPARED.encode())),
        )

    @staticmethod
    def _field(marts: str) -> bytes:
        return f"built:{marts}".encode()


def _instant(content: bytes | None) -> datetime | None:
    return datetime.fromisoformat(content.decode()) if content else None


def ago(now: datetime, then: datetime) -> str:
    """Return `12 s ago`, in the largest unit of which there are at least two."""
    seconds = max(0.0, (now - then).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
