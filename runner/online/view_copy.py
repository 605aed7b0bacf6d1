"""One view on its way from the warehouse to the online store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime

import pyarrow as pa

from contract.feast_format import field_hash, time_field
from contract.view_state import FeatureDigests
from runner.errors import RunnerError
from runner.online.connection import OnlineConnection
from runner.online.online_config import OnlineConfig
from runner.online.state import Lease, ViewState, Watermark, definition_digest, key_dtypes
from runner.online.sweep import remove_fields, sweep
from runner.online.view_report import FULL, INCREMENTAL, ViewReport
from runner.online.writer import ViewWriter
from runner.warehouse.mart_snapshot import MartSnapshot
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
        self._writer = ViewWriter(
            connection,
            snapshot.mart,
            project=config.project,
            key_ttl_seconds=config.key_ttl_seconds,
            lease=lease,
            gives_way_until=_gives_way_until(state),
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
        reason = "" if full or last is None else self._doubt(last)
        since = None if full or reason else last
        was_dirty = self._state.is_dirty
        self._state.begin(as_of, self._mart, self._digests)
        removed = 0
        if since is None:
            removed = self._sweep(as_of)
        entities = self._stream(as_of, since, progress)
        # As many entities found as the last run left: none of those has gone from the mart.
        tally = self._writer.tally
        found = self._writer.unchanged + tally.found
        if since is not None and (was_dirty or found < since.entities):
            removed = self._sweep(as_of)
        self._lease.renew()
        self._complete(as_of, entities)
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
        )

    def _complete(self, as_of: datetime, entities: int) -> None:
        watermark = Watermark(
            as_of=as_of,
            horizon=self._snapshot.horizon,
            identity=self._snapshot.identity,
            entities=entities,
            kept_newer=self._writer.tally.kept,
            definition=self._definition,
        )
        self._state.complete(watermark, self._ttl, self._digests)

    def _doubt(self, last: Watermark) -> str:
        """Return why what changed since `last` cannot be known; empty where it can."""
        now = self._snapshot
        if not now.identity:
            return "the warehouse keeps no versions of its rows"
        if not last.identity:
            return "written by another version"
        if last.definition != self._definition:
            return "its definition changed"
        for part, value in now.identity.items():
            if last.identity.get(part) != value:
                return _REASONS[part]
        return "" if now.knows_changes_since(last.horizon) else "the last run was too long ago"

    def _stream(self, as_of: datetime, since: Watermark | None, progress: Progress) -> int:
        """Write what differs (`since` None: everything) and return the number of entities."""
        changed = None if since is None else (since.horizon, since.as_of)
        rows = self._snapshot.newest_rows(as_of, changed)
        entities = 0
        with closing(prefetched(rows, self._snapshot.cancel)) as batches:
            for chunk in _chunks(batches):
                self._lease.renew()
                self._writer.write(chunk, is_fresh=since is None)
                entities += chunk.num_rows
                progress(self._mart.name, chunk.num_rows)
        self._writer.finish()
        return entities

    def _sweep(self, as_of: datetime) -> int:
        return sweep(self._connection, self._snapshot, as_of, self._writer)

    def _remove(self, fields: list[bytes]) -> None:
        remove_fields(self._connection, self._lease, self._project, self._state, fields)


def _gives_way_until(state: ViewState) -> datetime | None:
    """Return until when a stored value newer than the mart's can only be one that it had.

    After a complete run that met no stranger's value, whatever is stored up to its instant came
    from the mart; if the mart's newest is older now, that row was deleted there.
    """
    last = state.watermark
    return state.newest_instant() if last is not None and last.kept_newer == 0 else None


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for at in range(0, batch.num_rows, _CHUNK_ROWS):
            yield batch.slice(at, _CHUNK_ROWS)
