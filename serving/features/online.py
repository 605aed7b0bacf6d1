"""Read features from the online store in Feast's own Redis format, without Feast."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from operator import getitem, itemgetter

from contract.bundle import Bundle, BundleFeature
from contract.feast_format import key_prefix, string_key
from contract.serving_errors import InvalidOnlineValueError
from contract.values import DECODERS, UNREADABLE, FeatureValue, decode_doubles, decode_timestamp
from contract.view_layout import CHANGED, NULL, PRESENT, StoredView, ViewLayout
from serving.features.entity_keys import EntityKeys

_MANY = 8
"""As many rows are decoded sooner by feature than row by row."""

GroupReplies = Sequence[Sequence[StoredView]]
"""Of each group of views, the replies that rows are read from."""


class OnlineRow:
    """The features of one entity row, in the order of `bundle.features`.

    Attributes
    ----------
    values
        Exact values; None unless the status is `present`.
    statuses
        Those of `contract.view_layout`.
    read_at
        When they were read, in Unix seconds.
    times
        Of each view, in the order of `OnlineFormat.views`: the event time of the row, in Unix
        seconds; None where the row is missing.
    is_complete
        Whether every status is `present`: most rows need no second look.
    """

    __slots__ = ("is_complete", "read_at", "statuses", "times", "values")

    def __init__(
        self,
        values: Sequence[FeatureValue],
        statuses: Sequence[str],
        read_at: float,
        times: Sequence[float | None],
        is_complete: bool = False,
    ) -> None:
        self.values = values
        self.statuses = statuses
        self.read_at = read_at
        self.times = times
        self.is_complete = is_complete


class OnlineFormat:
    """What one bundle asks the online store for, compiled once.

    Views with equal join keys of the same entities lie in one hash, so they are read by one
    command.

    Attributes
    ----------
    views
        The views in the order that they are read in, each as `view` or `view[role]`.
    changed
        Positions of the features whose stored values are of another definition than the model was
        trained on.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.changed: frozenset[int] = frozenset()
        self._keys = EntityKeys(bundle)
        by_keys: dict[tuple[tuple[str, ...], tuple[str, ...]], list[BundleFeature]] = {}
        for feature in bundle.features:
            by_keys.setdefault((feature.join_keys, feature.keys), []).append(feature)
        self._groups = [
            _Group(bundle.feast_project, self._keys.names, features)
            for features in by_keys.values()
        ]
        self.views = [view for group in self._groups for view in group.views]
        # Groups list their features view by view; the model wants the bundle's order.
        features = [feature for group in self._groups for feature in group.features]
        order = [feature.name for feature in features]
        wanted = [order.index(feature.name) for feature in bundle.features]
        self._reorder = None if wanted == sorted(wanted) else itemgetter(*wanted)
        self._view_of = [self.views.index(feature.projection) for feature in bundle.features]
        self._many = _ManyRows(self._groups, wanted)

    def lookup(self) -> Lookup:
        """Return what collects the entity rows of a batch."""
        return Lookup(self._keys, self._groups)

    def rows(
        self, replies: GroupReplies, places: Sequence[Sequence[int]], now: float
    ) -> list[OnlineRow | InvalidOnlineValueError]:
        """Return the features of each entity row, or why they cannot be read.

        Parameters
        ----------
        replies
            As `Lookup.by_group` returns them.
        places
            Of each row, what `Lookup.add` returned. Rows may share replies.
        now
            Unix time in seconds that ages are measured at.
        """
        read = self._many.read(replies, places, now) if len(places) >= _MANY else {}
        if len(read) == len(places) and not self.changed:
            return list(read.values())
        cache: dict[tuple[int, int], OnlineRow] = {}
        rows: list[OnlineRow | InvalidOnlineValueError] = []
        for at, own in enumerate(places):
            try:
                row = read.get(at) or self._row(replies, own, now, cache)
            except InvalidOnlineValueError as err:
                rows.append(err)
            else:
                rows.append(_marked(row, self.changed) if self.changed else row)
        return rows

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


class Lookup:
    """The hashes that the entity rows of a batch are read from, each once.

    Rows may share them: one user with a hundred categories has one row of user features.
    """

    def __init__(self, keys: EntityKeys, groups: Sequence[_Group]) -> None:
        self._encode = keys.encode
        self._wanted: list[tuple[_Group, dict[bytes, int]]] = [(group, {}) for group in groups]

    def add(self, entity_row: object) -> list[int]:
        """Return which of the hashes of each group of views the row is read from.

        Raises
        ------
        InvalidEntityRowError
            Naming the key that is missing, unknown or of the wrong type.
        """
        encoded = self._encode(entity_row)
        return [known.setdefault(group.key(encoded), len(known)) for group, known in self._wanted]

    def commands(self) -> list[bytes]:
        """Return the packed commands that read them, group by group."""
        return [group.command(key) for group, known in self._wanted for key in known]

    def by_group(self, replies: Sequence[StoredView]) -> GroupReplies:
        """Return the replies to `commands`, those of each group apart."""
        rest = iter(replies)
        return [list(islice(rest, len(known))) for _, known in self._wanted]


class _Group:
    """The views with the same join keys of the same entities, read by one HMGET.

    Attributes
    ----------
    layouts
        Of each view, and where its fields are in a reply.
    """

    def __init__(
        self, feast_project: str, key_names: Sequence[str], features: list[BundleFeature]
    ) -> None:
        join_keys = features[0].join_keys
        by_view: dict[str, list[BundleFeature]] = {}
        for feature in features:
            by_view.setdefault(feature.view, []).append(feature)
        fields: list[bytes] = []
        self.views = [members[0].projection for members in by_view.values()]
        self.layouts: list[tuple[ViewLayout, slice]] = []
        for view, members in by_view.items():
            members.sort(key=lambda feature: feature.dtype == "float64")  # decoded together
            layout = ViewLayout(
                view,
                {feature.feature: feature.dtype for feature in members},
                members[0].ttl_seconds,
                [feature.redis_field for feature in members],
            )
            self.layouts.append((layout, slice(len(fields), len(fields) + len(layout.fields))))
            fields += layout.fields
        self.features = [feature for members in by_view.values() for feature in members]
        keys = [key_names.index(name) for name in features[0].keys]
        self._keys = None if keys == list(range(len(key_names))) else keys
        self._head = key_prefix(join_keys) + (b"" if join_keys else string_key(""))
        self._project = feast_project.encode()
        self._start = b"*%d\r\n$5\r\nHMGET\r\n$" % (len(fields) + 2)
        self._end = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in fields)

    def key(self, encoded: Sequence[bytes]) -> bytes:
        """Return the Redis key of the hash, of an entity row's encoded keys."""
        if self._keys is not None:
            encoded = [encoded[at] for at in self._keys]
        return b"".join((self._head, *encoded, self._project))

    def command(self, key: bytes) -> bytes:
        """Return the packed command that reads the views."""
        return b"%b%d\r\n%b%b" % (self._start, len(key), key, self._end)

    def decode(self, reply: StoredView, now: float) -> OnlineRow:
        """Return the views' features; raises as `ViewLayout.see`."""
        values: list[FeatureValue] = []
        statuses: list[str] = []
        times: list[float | None] = []
        is_complete = True
        for layout, part in self.layouts:
            seen = layout.see(reply[part], now)
            values += seen.values
            statuses += seen.statuses
            times.append(seen.event_time)
            is_complete = is_complete and seen.is_complete
        return OnlineRow(values, statuses, now, times, is_complete)


class _ManyRows:
    """Reads many rows, a feature of all of them at a time: in a quarter of the time.

    It knows only rows that have everything and have not expired, as most have. `ViewLayout.see`
    judges the others.
    """

    def __init__(self, groups: Sequence[_Group], order: Sequence[int]) -> None:
        self._times: list[tuple[int, float | None]] = []
        fields: list[tuple[int, str]] = []
        start = 0
        for group in groups:
            for layout, part in group.layouts:
                self._times.append((start + part.start, layout.ttl_seconds))
                places = range(start + part.start + 1, start + part.stop)
                fields += zip(places, layout.dtypes.values(), strict=True)
            start += sum(len(layout.fields) for layout, _ in group.layouts)
        self._fields = [fields[at] for at in order]
        self._present = (PRESENT,) * len(fields)

    def read(
        self, replies: GroupReplies, places: Sequence[Sequence[int]], now: float
    ) -> dict[int, OnlineRow]:
        """Return the rows that it knows, by position; none if a value cannot be read."""
        whole = _whole(replies, places)
        stored = dict(enumerate(whole))
        if not all(map(all, whole)):  # NULL is empty, so they are looked at again
            stored = {at: row for at, row in stored.items() if None not in row}
        columns: list[Sequence[bytes]] = list(zip(*stored.values(), strict=True))
        if not columns:
            return {}
        try:
            times = [list(map(decode_timestamp, columns[place])) for place, _ in self._times]
            values, nulls = self._decode(columns)
        except UNREADABLE:
            return {}
        rows = {}
        for at, own, own_times in zip(
            stored, zip(*values, strict=True), zip(*times, strict=True), strict=True
        ):
            if nulls and None in own:
                statuses = [NULL if value is None else PRESENT for value in own]
                rows[at] = OnlineRow(own, statuses, now, own_times)
            else:
                rows[at] = OnlineRow(own, self._present, now, own_times, True)
        for at in self._expired(times, now):
            del rows[list(stored)[at]]
        return rows

    def _decode(
        self, columns: Sequence[Sequence[bytes]]
    ) -> tuple[list[Sequence[FeatureValue]], bool]:
        """Return the values of each feature, and whether one of them is null."""
        values: list[Sequence[FeatureValue]] = []
        nulls = False
        for place, dtype in self._fields:
            stored = columns[place]
            own: Sequence[FeatureValue] | None = None
            if dtype == "float64":
                own = decode_doubles(stored)
            if own is None:
                own = list(map(DECODERS[dtype], stored))
                nulls = nulls or None in own
            values.append(own)
        return values, nulls

    def _expired(self, times: Sequence[Sequence[float]], now: float) -> set[int]:
        """Return which rows have expired in any view."""
        return {
            at
            for own, (_, ttl) in zip(times, self._times, strict=True)
            if ttl is not None and now - min(own) > ttl
            for at, time in enumerate(own)
            if now - time > ttl
        }


def _whole(replies: GroupReplies, places: Sequence[Sequence[int]]) -> Sequence[StoredView]:
    """Return the replies of each row as one."""
    if len(replies) == 1:
        own = replies[0]
        return [own[place] for (place,) in places]
    return [list(chain.from_iterable(map(getitem, replies, row_places))) for row_places in places]
