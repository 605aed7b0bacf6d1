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

A mart with `compare_every` has such a comparison at that interval. The runs between follow: they
look at entities that have new rows, and at nothing else (`view_copy`, `our_values`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contract.view_state import FeatureDigests
from runner.errors import RunnerError
from runner.online.connection import OnlineConnection, connect
from runner.online.lease import Lease, holding
from runner.online.online_config import OnlineConfig, load_online_config
from runner.online.state import ViewState
from runner.online.view_copy import Progress, ViewCopy
from runner.online.view_report import FULL, SUPERSEDED, MaterializeError, ViewReport
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from runner.warehouse.mart_snapshot import MissingTableError
from runner.warehouse.open_mart import find_duplicates, open_mart

_CLOCK_WANDERS = timedelta(minutes=1)
"""By how much a clock that is set back, or another server's, may differ: a run waits for it."""
NO_DIGESTS: Mapping[str, FeatureDigests] = {}


def materialize(
    settings: Settings,
    marts: Sequence[FeatureMart],
    *,
    feast_project: str | None = None,
    full: bool = False,
    as_of: datetime | None = None,
    digests: Mapping[str, FeatureDigests] = NO_DIGESTS,
    keep_what_left: bool = False,
    skip_unbuilt: Collection[str] = (),
    progress: Progress = lambda _view, _rows: None,
    note: Callable[[str], None] = lambda _text: None,
) -> list[ViewReport]:
    """Bring the online store's copy of `marts` to the instant `as_of`; return what was done.

    A view that cannot be copied does not stop the others.

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
    digests
        By view, then by feature: of the definitions that the marts have now, as far as known.
    keep_what_left
        Leave a view as it is if dbt no longer has some of its features or its join keys: a served
        version may read them.
    skip_unbuilt
        Views that are noted and skipped if they have no table and were never copied.
    note
        Called with a line worth showing, such as what is being waited for.

    Raises
    ------
    MaterializeError
        Once all others are copied, if a mart has no table and must not be skipped, holds what the
        store cannot, or another run took over.
    RunnerError
        If `as_of` has no time zone, or the online store is not what the settings say.
    """
    _check_zone(as_of)
    config = load_online_config(settings)
    config = replace(config, project=feast_project or config.project)
    reports: list[ViewReport] = []
    errors: list[RunnerError] = []
    with connect(settings, config) as connection:
        run = _MaterializeRun(settings, config, connection, as_of, digests, keep_what_left)
        for mart in marts:
            if not mart.online:
                continue
            try:
                reports.append(run.view(mart, full, progress, note))
            except MissingTableError as err:
                state = ViewState(connection, config.project, mart.name)
                if mart.name in skip_unbuilt and state.newest_instant() is None:
                    note(f"{mart.name}: dbt has not built it, skipped; {err.hint}")
                else:
                    errors.append(err)
            except RunnerError as err:
                errors.append(err)
    if errors:
        raise MaterializeError(errors, reports)
    return reports


@dataclass(frozen=True)
class _MaterializeRun:
    """What all views of one run share."""

    settings: Settings
    config: OnlineConfig
    connection: OnlineConnection
    as_of: datetime | None
    digests: Mapping[str, FeatureDigests]
    keep_what_left: bool

    def view(
        self, mart: FeatureMart, full: bool, progress: Progress, note: Callable[[str], None]
    ) -> ViewReport:
        lease = Lease(self.connection, self.config.project, mart.name)
        with holding(lease, note), open_mart(self.settings, mart) as snapshot:
            as_of = _instant(self.as_of, snapshot.now)
            state = ViewState(self.connection, self.config.project, mart.name)
            newest = state.newest_instant()
            if newest is not None and as_of < newest and not self._is_set_back(as_of, newest):
                return ViewReport(mart.name, SUPERSEDED, newest)
            copy = ViewCopy(
                self.connection, self.config, lease, snapshot, state, self.digests.get(mart.name)
            )
            if self.keep_what_left:
                copy.require_nothing_left()
            elif removed := copy.drop_what_left():
                note(removed)
            report = copy.run(as_of, progress, full=full)
            # A view would be computed once more; what an incremental run adds, `train` finds.
            if report.mode == FULL and snapshot.identity:
                found = find_duplicates(self.settings, mart)
                if found.rows:
                    note(f"{found.problem(mart)}; the greatest values are copied")
            return report

    def _is_set_back(self, now: datetime, newest: datetime) -> bool:
        """Return whether the warehouse's clock was far ahead when the store was filled.

        Then this instant is the later one, and to wait for `newest` would leave the store as it is.
        """
        return self.as_of is None and newest - now > _CLOCK_WANDERS


def _check_zone(wanted: datetime | None) -> None:
    if wanted is not None and wanted.tzinfo is None:
        raise RunnerError(
            f"{wanted.isoformat()} has no time zone",
            hint=f"write it as {wanted.isoformat()}Z or with an offset",
        )


def _instant(wanted: datetime | None, now: datetime) -> datetime:
    if wanted is None:
        return now
    if wanted > now:
        raise RunnerError(
            f"{wanted.isoformat()} is in the future; the warehouse's clock says {now.isoformat()}",
            hint="leave the instant out to take now",
        )
    return wanted
