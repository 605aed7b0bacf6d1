"""Read features from the online store in Feast's own Redis format, without Feast."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from contract.bundle import Bundle, BundleFeature
from contract.serving_errors import InvalidOnlineValueError
from contract.tensors import Numbers
from contract.view_layout import CHANGED, PRESENT
from serving.features.entity_keys import EntityKeys
from serving.features.lookup import Lookup
from serving.features.many_rows import MANY, ManyRows
from serving.features.online_row import OnlineRow
from serving.features.view_group import GroupReplies, ViewGroup


class OnlineFormat:
    """What one bundle asks the online store for, compiled once.

    Views with equal join keys of the same entities lie in one hash, so they are read by one
    command.

    Attributes
    ----------
    keys
        What the entity rows of a request are encoded with.
    views
        The views in the order that they are read in, each as `view` or `view[role]`.
    changed
        Positions of the features whose stored values are of another definition than the model was
        trained on.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.changed: frozenset[int] = frozenset()
        self.keys = EntityKeys(bundle)
        by_keys: dict[tuple[tuple[str, ...], tuple[str, ...]], list[BundleFeature]] = {}
        for feature in bundle.features:
            by_keys.setdefault((feature.join_keys, feature.keys), []).append(feature)
        self._groups = [
            ViewGroup(bundle.feast_project, self.keys.names, features)
            for features in by_keys.values()
        ]
        self.views = [view for group in self._groups for view in group.views]
        # Groups list their features view by view; the model wants the bundle's order.
        features = [feature for group in self._groups for feature in group.features]
        order = [feature.name for feature in features]
        wanted = [order.index(feature.name) for feature in bundle.features]
        self._reorder = None if wanted == sorted(wanted) else itemgetter(*wanted)
        self._view_of = [self.views.index(feature.projection) for feature in bundle.features]
        self._many = ManyRows(self._groups, wanted)

    def lookup(self) -> Lookup:
        """Return an empty lookup for the entity rows of a batch."""
        return Lookup(self._groups)

    def rows(
        self, replies: GroupReplies, places: Sequence[Sequence[int]], now: float
    ) -> tuple[list[OnlineRow | InvalidOnlineValueError], Numbers | None]:
        """Return the features of each entity row, or why they cannot be read.

        The second result has the values of all rows as one array, shape (n_rows, n_features): to
        make it of the rows would take longer. None if there are few rows, or if any value is
        missing or no float64.

        Parameters
        ----------
        replies
            As `Lookup.by_group` returns them.
        places
            Of each row, what `Lookup.add` returned. Rows may share replies.
        now
            Unix time in seconds that ages are measured at.
        """
        read, numbers = self._many.read(replies, places, now) if len(places) >= MANY else ({}, None)
        if len(read) == len(places) and not self.changed:
            return list(read.values()), numbers
        cache: dict[tuple[int, int], OnlineRow] = {}
        rows: list[OnlineRow | InvalidOnlineValueError] = []
        for at, own in enumerate(places):
            try:
                row = read.get(at) or self._row(replies, own, now, cache)
            except InvalidOnlineValueError as err:
                rows.append(err)
            else:
                rows.append(_marked(row, self.changed) if self.changed else row)
        return rows, numbers

    def _row(
        self,
        replies: GroupReplies,
        places: Sequence[int],
        now: float,
        cache: dict[tuple[int, int], OnlineRow],
    ) -> OnlineRow:
        """Return one row; `cache` has the decoded replies. Raises as `ViewLayout.see`."""
        parts = []
        for at in enumerate(places):
            part = cache.get(at)
            if part is None:
                number, place = at
                part = cache[at] = self._groups[number].decode(replies[number][place], now)
            parts.append(part)
        whole = parts[0] if len(parts) == 1 else _join(parts, now)
        if self._reorder is not None:
            whole = OnlineRow(
                self._reorder(whole.values),
                whole.statuses if whole.is_complete else self._reorder(whole.statuses),
                now,
                whole.times,
                whole.is_complete,
            )
        return whole

    def ages(self, row: OnlineRow) -> list[float | None]:
        """Return how old each feature's row was when it was read, in seconds, as it was stored."""
        ages = [None if time is None else row.read_at - time for time in row.times]
        return [ages[view] for view in self._view_of]


def _marked(row: OnlineRow, changed: frozenset[int]) -> OnlineRow:
    statuses = [
        CHANGED if status is PRESENT and position in changed else status
        for position, status in enumerate(row.statuses)
    ]
    return OnlineRow(row.values, statuses, row.read_at, row.times)


def _join(parts: Sequence[OnlineRow], now: float) -> OnlineRow:
    return OnlineRow(
        [value for part in parts for value in part.values],
        [status for part in parts for status in part.statuses],
        now,
        [time for part in parts for time in part.times],
        all(part.is_complete for part in parts),
    )
