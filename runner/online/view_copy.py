"""One view on its way from the warehouse to the online store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from contract.feast_format import field_hash, time_field
from contract.view_state import FeatureDigests
from runner.errors import RunnerError
from runner.online.collected_pushes import built_pushes, collected_until
from runner.online.connection import OnlineConnection
from runner.online.lease import Lease
from runner.online.online_config import OnlineConfig
from runner.online.state import ViewState
from runner.online.sweep import remove_fields, sweep
from runner.online.view_report import FULL, INCREMENTAL, ViewReport
from runner.online.watermark import NOT_LOOKED, Watermark, definition_digest, key_dtypes
from runner.online.writer import ViewWriter
from runner.warehouse.mart_snapshot import EVENT_TIME, MartSnapshot
from runner.warehouse.prefetch import prefetched

_CHUNK_ROWS = 2_000

Progress = Callable[[str, int], None]
"""Called with a view's name and how many more of its rows are done."""

_REASONS = {
    "server": "the server was restarted",
    "tables": "the table was rebuilt",
    "columns": "its columns changed",
    "indexes": "its unique indexes changed",
}


class ViewCopy:
    """One view on its way from the warehouse to the online store."""

    def __init__(
        self,
        connection: OnlineConnection,
        config: OnlineConfig,
        lease: Lease,
        snapshot: MartSnapshot,
        state: ViewState,
        digests: FeatureDigests | None,
    ) -> None:
        self._connection = connection
        self._project = config.project
        self._ttl = config.key_ttl_seconds
        self._lease = lease
        self._snapshot = snapshot
        self._state = state
        self._mart = snapshot.mart
        self._digests = state.with_known_digests(digests)
        self._definition = definition_digest(snapshot.mart)
        self._collected = collected_until(connection, config.project, snapshot.mart.name)
        self._newest: datetime | None = None
        self._built = (
            built_pushes(connection, config.project, snapshot, state.watermark)
            if self._is_pushed
            else None
        )
        self._writer = ViewWriter(
            connection,
            snapshot.mart,
            project=config.project,
            key_ttl_seconds=config.key_ttl_seconds,
            lease=lease,
            ours=state.ours(self._built.until if self._built else None),
        )

    def require_nothing_left(self) -> None:
        """Raise if `drop_what_left` would remove anything.

        Raises
        ------
        RunnerError
            Naming the features.
        """
        left = "its former join keys" if self._has_other_keys else ", ".join(self._dropped)
        if left:
            raise RunnerError(
                f"{self._mart.name}: {left}: no longer in dbt, and a served model may read the "
                "values, which stay in Redis",
                hint="repeat `runner materialize` once MLflow answers",
            )

    @property
    def _is_pushed(self) -> bool:
        """Whether pushes may have created entities since the last run."""
        last = self._state.watermark
        return self._collected is not None or (last is not None and last.collected is not None)

    @property
    def _has_other_keys(self) -> bool:
        return self._state.join_keys not in (None, key_dtypes(self._mart))

    @property
    def _dropped(self) -> list[str]:
        return sorted(self._state.features - {column.name for column in self._mart.features})

    def drop_what_left(self) -> str:
        """Remove features, or entities of other join keys, that dbt no longer has; say which."""
        state, view = self._state, self._mart.name
        if self._has_other_keys:
            fields = [time_field(view), *(field_hash(view, name) for name in state.features)]
            self._remove(fields)
            former = ", ".join(state.join_keys or ()) or "none"
            return f"{view}: removed the values of its former join keys ({former})"
        dropped = self._dropped
        if not dropped:
            return ""
        self._remove([field_hash(view, name) for name in dropped])
        return f"{view}: removed the values of {', '.join(dropped)}, no longer in dbt"

    def run(self, as_of: datetime, progress: Progress, *, full: bool) -> ViewReport:
        """Bring the view to `as_of`; `full`: whatever the watermark says."""
        started = time.perf_counter()
        last = self._state.watermark
        reason = "" if full or last is None else self._doubt(last, as_of)
        since = None if full or reason else last
        follows = since is not None and self._may_follow(since, as_of)
        was_dirty = self._state.is_dirty
        self._state.begin(as_of, self._mart, self._digests, follows=follows)
        removed = 0
        if since is None:
            removed = self._sweep(as_of)
        rows = self._rows(as_of, since, follows=follows)
        entities = self._stream(rows, progress, since=since, follows=follows)
        # As many entities found as the last run left: none of those has gone from the mart. But one
        # that a push created is found too, and was not among them.
        tally = self._writer.tally
        found = self._writer.unchanged + tally.found
        if since is not None and follows:
            entities = since.entities + entities - found
        elif since and (was_dirty or self._is_pushed or found < since.entities):
            removed = self._sweep(as_of)
        if follows and since and since.newest:
            self._newest = max(since.newest, self._newest or since.newest)
        self._lease.renew()
        watermark = self._watermark(as_of, entities, since if follows else None)
        life = None if self._ttl is None or follows else self._ttl - time.perf_counter() + started
        self._state.complete(watermark, life, self._digests)
        return ViewReport(
            view=self._mart.name,
            mode=FULL if since is None else INCREMENTAL,
            as_of=as_of,
            reason=reason,
            entities=entities,
            written=tally.written,
            kept_newer=tally.kept,
            removed=removed,
            seconds=time.perf_counter() - started,
            compared=watermark.comparison.as_of,
            newest=self._newest,
            advice=self._advice(compares=since is not None and not follows),
        )

    def _may_follow(self, last: Watermark, as_of: datetime) -> bool:
        """Return whether it is enough to look at rows that are new since `last`."""
        every = self._mart.compare_every
        return (
            every is not None
            and as_of - last.comparison.as_of < every
            and bool(self._mart.join_keys)
            and self._snapshot.hindrance is None
            and not self._state.is_dirty
            and (self._collected is not None or last.collected is None)  # pushes have ended
            and (last.next_visible is None or as_of < last.next_visible)
            and self._state.outlives(self._ttl)
        )

    def _advice(self, *, compares: bool) -> str:
        """Return why a run does more than what is new needs, and what to do about it."""
        if self._mart.compare_every is not None and self._snapshot.hindrance is not None:
            what, cure = self._snapshot.hindrance
            return f"{what}, so each run compares every entity; {cure}"
        if compares and self._snapshot.all_changed is not None:
            what, cure = self._snapshot.all_changed
            return f"{what}, so each incremental run writes every entity; {cure}"
        return ""

    def _watermark(self, as_of: datetime, entities: int, followed: Watermark | None) -> Watermark:
        return Watermark(
            as_of=as_of,
            horizon=self._snapshot.horizon,
            identity=self._snapshot.identity,
            entities=entities,
            kept_newer=self._writer.tally.kept,
            definition=self._definition,
            next_visible=self._next_visible(as_of, followed),
            compared=followed.comparison if followed else None,
            collected=self._collected,
            built=self._built,
            newest=self._newest,
        )

    def _next_visible(self, as_of: datetime, followed: Watermark | None) -> datetime | None:
        if self._mart.compare_every is None or self._snapshot.hindrance is not None:
            return NOT_LOOKED
        since = (followed.horizon, followed.as_of) if followed else None
        found = self._snapshot.next_visible(as_of, since)
        known = [found, followed.next_visible if followed else None]
        return min(filter(None, known), default=None)

    def _doubt(self, last: Watermark, as_of: datetime) -> str:
        """Return why what changed since `last` cannot be known; empty where it can."""
        now = self._snapshot
        if as_of < last.as_of:
            return "the warehouse's clock was set back"
        if not now.identity:
            return "the warehouse keeps no versions of its rows"
        if not last.identity:
            return "written by another version"
        if last.definition != self._definition:
            return "its definition changed"
        for part, value in now.identity.items():
            if last.identity.get(part) != value:
                return _REASONS[part]
        reaches_back = now.knows_changes_since(last.comparison.horizon)
        return "" if reaches_back else "the last run was too long ago"

    def _rows(
        self, as_of: datetime, since: Watermark | None, *, follows: bool
    ) -> Iterator[pa.RecordBatch]:
        """Return the newest rows: all that may differ since the watermark (None: all)."""
        if since is not None and follows:
            return self._snapshot.arrived_rows(as_of, (since.horizon, since.as_of))
        last = since.comparison if since else None
        return self._snapshot.newest_rows(as_of, (last.horizon, last.as_of) if last else None)

    def _stream(
        self,
        rows: Iterator[pa.RecordBatch],
        progress: Progress,
        *,
        since: Watermark | None,
        follows: bool,
    ) -> int:
        """Write what differs (`since` None: everything) and return the number of entities."""
        entities = 0
        with closing(prefetched(rows, self._snapshot.cancel)) as batches:
            for chunk in _chunks(batches):
                self._lease.renew()
                if follows:
                    self._writer.follow(chunk)
                else:
                    self._writer.write(chunk, is_fresh=since is None)
                entities += chunk.num_rows
                latest = pc.max(chunk.column(EVENT_TIME)).as_py()
                self._newest = max(self._newest or latest, latest)
                progress(self._mart.name, chunk.num_rows)
        self._writer.finish()
        return entities

    def _sweep(self, as_of: datetime) -> int:
        until = as_of.timestamp()
        if self._collected is not None and self._built is not None:
            until = min(until, self._built.until)
        return sweep(self._connection, self._snapshot, as_of, self._writer, until)

    def _remove(self, fields: list[bytes]) -> None:
        remove_fields(self._connection, self._lease, self._project, self._state, fields)


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for at in range(0, batch.num_rows, _CHUNK_ROWS):
            yield batch.slice(at, _CHUNK_ROWS)
