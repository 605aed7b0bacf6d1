"""Feature marts to the online store: the newest value of every entity, in Feast's own format.

Per view: take its lease, open one snapshot of the mart (`warehouse`), stream the newest row per
entity, encode column by column (`format`), write row by row with a check inside the server
(`scripts`), remove what the mart no longer has, then move the watermark (`state`). Whatever a
killed run left undone, the next one does: until the watermark has moved, every row is judged by
what is stored, and writing a row twice changes nothing.

An incremental run reads the newest row of every entity too, without history, but writes only rows
whose time differs from the stored one or that changed in the table since the watermark's snapshot
(as the warehouse itself knows, so that a late row or a correction is found whatever its timestamps
say; where it cannot know, every row counts as changed). It also renews the keys' time to live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from runner.errors import RunnerError
from runner.online.connection import (
    OnlineConfig,
    OnlineConnection,
    connect,
    load_online_config,
)
from runner.online.state import Lease, ViewState, Watermark, definition_digest, holding
from runner.online.sweep import drop_features, sweep
from runner.online.writer import ViewWriter
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.warehouse.mart_snapshot import MartSnapshot
from runner.warehouse.open_mart import open_mart

FULL, INCREMENTAL, SUPERSEDED = "full", "incremental", "superseded"
_CHUNK_ROWS = 2_000

Progress = Callable[[str, int], None]
"""Called with a view's name and how many more of its rows are done."""


@dataclass(frozen=True)
class ViewReport:
    """What one run did to one view.

    Attributes
    ----------
    mode
        `full`; `incremental`; or `superseded`: nothing done, the store is of a later instant.
    as_of
        The instant materialized.
    entities
        Entities with a valid row in the mart.
    written
        Rows written; `entities` less those that were already right and `kept_newer`.
    kept_newer
        Values left alone because they are newer than the mart's and not from an earlier run.
    removed
        Entities removed because the mart has no valid row for them any more.
    seconds
        Time taken.
    """

    view: str
    mode: str
    as_of: datetime
    entities: int = 0
    written: int = 0
    kept_newer: int = 0
    removed: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        """Entities handled per second."""
        return self.entities / self.seconds if self.seconds else 0.0


def materialize(
    settings: Settings,
    marts: Sequence[FeatureMart],
    *,
    feast_project: str | None = None,
    full: bool = False,
    as_of: datetime | None = None,
    progress: Progress = lambda _view, _rows: None,
    note: Callable[[str], None] = lambda _text: None,
) -> list[ViewReport]:
    """Bring the online store's copy of `marts` to the instant `as_of`; return what was done.

    Safe to repeat, to kill and to run twice at a time; a value newer than the mart's is not
    overwritten. Marts with `online: false` are left out.

    Parameters
    ----------
    feast_project
        Feast's project name; None: the one in the feature_store yaml.
    full
        Write every entity and check every stored one, whatever the watermark says.
    as_of
        With time zone, not in the future; None: now, by the warehouse's clock.
    note
        Called with a line worth showing, such as what is being waited for.

    Raises
    ------
    RunnerError
        If a mart has no table, `as_of` is impossible, or another run took over.
    """
    config = load_online_config(settings)
    with connect(settings, config) as connection:
        run = _Run(settings, config, connection, feast_project or config.project, as_of)
        return [run.view(mart, full, progress, note) for mart in marts if mart.online]


@dataclass(frozen=True)
class _Run:
    """What all views of one run share."""

    settings: Settings
    config: OnlineConfig
    connection: OnlineConnection
    project: str
    as_of: datetime | None

    def view(
        self, mart: FeatureMart, full: bool, progress: Progress, note: Callable[[str], None]
    ) -> ViewReport:
        started = time.perf_counter()
        lease = Lease(self.connection, self.project, mart.name)
        with holding(lease, note), open_mart(self.settings, mart) as snapshot:
            as_of = _instant(self.as_of, snapshot.now)
            state = ViewState(self.connection, self.project, mart.name)
            newest = state.newest_instant()
            if newest is not None and as_of < newest:
                return ViewReport(mart.name, SUPERSEDED, newest)
            copy = _Copy(self, lease, snapshot, as_of, state, progress)
            if dropped := copy.drop_features():
                names = ", ".join(dropped)
                note(f"{mart.name}: removed the values of {names}, which dbt has no more")
            return copy.run(full=full, started=started)


class _Copy:
    """One view on its way from the warehouse to the online store."""

    def __init__(
        self,
        run: _Run,
        lease: Lease,
        snapshot: MartSnapshot,
        as_of: datetime,
        state: ViewState,
        progress: Progress,
    ) -> None:
        self._run = run
        self._lease = lease
        self._snapshot = snapshot
        self._as_of = as_of
        self._state = state
        self._progress = progress
        self._definition = definition_digest(snapshot.mart)
        self._features = tuple(column.name for column in snapshot.mart.features)
        self._writer = ViewWriter(
            run.connection,
            snapshot.mart,
            project=run.project,
            key_ttl_seconds=run.config.key_ttl_seconds,
            lease=lease,
            gives_way_until=_gives_way_until(state),
        )

    def drop_features(self) -> list[str]:
        """Remove the features that earlier runs wrote and dbt has no more; return their names."""
        dropped = sorted(self._state.features - set(self._features))
        if dropped:
            view = self._snapshot.mart.name
            drop_features(self._run.connection, self._lease, self._writer, view, dropped)
        return dropped

    def run(self, *, full: bool, started: float) -> ViewReport:
        """Copy the view; `started` is when, by `time.perf_counter`."""
        since = None if full else self._continues()
        was_dirty = self._state.is_dirty
        self._state.begin(self._as_of, self._features)
        removed = 0
        if since is None:
            removed = self._sweep()
        entities = self._stream(since)
        # As many entities found as the last run left: none of those has gone from the mart.
        tally = self._writer.tally
        found = self._writer.unchanged + tally.found
        if since is not None and (was_dirty or found < since.entities):
            removed = self._sweep()
        self._lease.renew()
        watermark = Watermark(
            as_of=self._as_of,
            horizon=self._snapshot.horizon,
            identity=self._snapshot.identity,
            entities=entities,
            kept_newer=tally.kept,
            definition=self._definition,
        )
        self._state.complete(watermark, self._run.config.key_ttl_seconds)
        return ViewReport(
            view=self._snapshot.mart.name,
            mode=FULL if since is None else INCREMENTAL,
            as_of=self._as_of,
            entities=entities,
            written=tally.written,
            kept_newer=tally.kept,
            removed=removed,
            seconds=time.perf_counter() - started,
        )

    def _continues(self) -> Watermark | None:
        """Return the watermark to go on from, or None where everything must be written."""
        last, now = self._state.watermark, self._snapshot
        if (
            last is None
            or not now.identity
            or last.identity != now.identity
            or last.definition != self._definition
            or not now.knows_changes_since(last.horizon)
        ):
            return None
        return last

    def _stream(self, since: Watermark | None) -> int:
        """Write what differs (`since` None: everything) and return the number of entities."""
        changed = None if since is None else (since.horizon, since.as_of)
        rows = self._snapshot.newest_rows(self._as_of, changed)
        entities = 0
        with closing(_prefetched(rows, self._snapshot.cancel)) as batches:
            for chunk in _chunks(batches):
                self._lease.renew()
                self._writer.write(chunk, is_fresh=since is None)
                entities += chunk.num_rows
                self._progress(self._snapshot.mart.name, chunk.num_rows)
        self._writer.finish()
        return entities

    def _sweep(self) -> int:
        return sweep(self._run.connection, self._snapshot, self._as_of, self._writer)


def _instant(wanted: datetime | None, now: datetime) -> datetime:
    if wanted is None:
        return now
    if wanted.tzinfo is None:
        raise RunnerError(
            f"{wanted.isoformat()} has no time zone",
            hint=f"write it as {wanted.isoformat()}Z or with an offset",
        )
    if wanted > now:
        raise RunnerError(
            f"{wanted.isoformat()} is in the future; the warehouse's clock says {now.isoformat()}",
            hint="leave the instant out to take now",
        )
    return wanted


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


def _prefetched(
    batches: Iterator[pa.RecordBatch], cancel: Callable[[], None]
) -> Generator[pa.RecordBatch, None, None]:
    """Return `batches`, the next one being read while the last one is written."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        following: Any = pool.submit(next, batches, None)
        try:
            while (batch := following.result()) is not None:
                following = pool.submit(next, batches, None)
                yield batch
        except BaseException:  # also Ctrl-C and a consumer that gives up: the thread must end
            while not following.done():  # a cancel that comes before its query does nothing
                cancel()
                wait([following], timeout=0.05)
            raise
