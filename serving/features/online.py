"""Read features from the online store in Feast's own Redis format, without Feast."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from contract.bundle import Bundle, BundleFeature, BundleKey
from contract.feast_format import key_prefix, number_head, string_key
from contract.values import FeatureValue
from contract.view_layout import CHANGED, PRESENT, ViewLayout
from serving.http_errors import InvalidEntityRowError

INT32_RANGE = range(-(2**31), 2**31)
INT64_RANGE = range(-(2**63), 2**63)
_INT32, _INT64, _TIMESTAMP = map(number_head, ("int32", "int64", "timestamp"))
_pack_int32, _pack_int64 = struct.Struct("<8si").pack, struct.Struct("<8sq").pack
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


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
    command. Equal commands within a request (one user, a hundred categories) are sent once.

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
        self._keys = [(key, _KEY_ENCODERS[key.dtype]) for key in bundle.entity_keys]
        self._names = {key.name for key in bundle.entity_keys}
        self._request = {given.name for given in bundle.request}
        by_keys: dict[tuple[tuple[str, ...], tuple[str, ...]], list[BundleFeature]] = {}
        for feature in bundle.features:
            by_keys.setdefault((feature.join_keys, feature.keys), []).append(feature)
        self._groups = [_Group(bundle.feast_project, features) for features in by_keys.values()]
        self.views = [view for group in self._groups for view in group.views]
        # Groups list their features view by view; the model wants the bundle's order.
        features = [feature for group in self._groups for feature in group.features]
        order = [feature.name for feature in features]
        wanted = [order.index(feature.name) for feature in bundle.features]
        self._reorder = None if wanted == sorted(wanted) else itemgetter(*wanted)
        self._view_of = [self.views.index(feature.projection) for feature in bundle.features]

    def commands(self, entity_row: object) -> list[bytes]:
        """Return the packed commands that read one entity row, one per group of views.

        Raises
        ------
        InvalidEntityRowError
            Naming the key that is missing, unknown or of the wrong type.
        """
        if not isinstance(entity_row, dict):
            raise InvalidEntityRowError("an entity row is an object of entity keys")
        encoded = {}
        for key, encode in self._keys:
            try:
                encoded[key.name] = encode(entity_row[key.name])
            except KeyError:
                raise InvalidEntityRowError(f"{key.name} is missing") from None
            except (TypeError, ValueError):
                raise InvalidEntityRowError(f"{key.name} must be {EXPECTED[key.dtype]}") from None
        if len(entity_row) != len(encoded) + len(self._request):
            self._refuse_unknown(entity_row)
        return [group.command(encoded) for group in self._groups]

    def _refuse_unknown(self, entity_row: Mapping[str, object]) -> None:
        """Raise unless every name is an entity key's or a request input's."""
        unknown = sorted(map(str, entity_row.keys() - self._names - self._request))
        if not unknown:
            return  # one is missing
        known = ", ".join(sorted(self._names)) or "none"
        told = f"{unknown[0]!r} is not an entity key; those are {known}"
        if self._request:
            told = (
                f"{unknown[0]!r} is neither an entity key ({known}) nor a request input "
                f"({', '.join(sorted(self._request))})"
            )
        raise InvalidEntityRowError(told)

    def row(
        self, replies: Sequence[Sequence[bytes | None]], now: float, cache: dict[int, OnlineRow]
    ) -> OnlineRow:
        """Return the features in one reply per group.

        Parameters
        ----------
        now
            Unix time in seconds that ages are measured at.
        cache
            Decoded replies of this request, by identity: rows may share them.

        Raises
        ------
        InvalidOnlineValueError
            If a value is not of the type that the model was trained with or beyond what it can
            take, or its time is no time.
        """
        parts = []
        for group, reply in zip(self._groups, replies, strict=True):
            part = cache.get(id(reply))
            if part is None:
                part = cache[id(reply)] = group.decode(reply, now)
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
        return _marked(whole, self.changed) if self.changed else whole

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


class _Group:
    """The views with the same join keys of the same entities, read by one HMGET."""

    def __init__(self, feast_project: str, features: list[BundleFeature]) -> None:
        join_keys = features[0].join_keys
        by_view: dict[str, list[BundleFeature]] = {}
        for feature in features:
            by_view.setdefault(feature.view, []).append(feature)
        fields: list[bytes] = []
        self.views = [members[0].projection for members in by_view.values()]
        self._views: list[tuple[ViewLayout, slice]] = []
        for view, members in by_view.items():
            members.sort(key=lambda feature: feature.dtype == "float64")  # decoded together
            layout = ViewLayout(
                view,
                {feature.feature: feature.dtype for feature in members},
                members[0].ttl_seconds,
                [feature.redis_field for feature in members],
            )
            self._views.append((layout, slice(len(fields), len(fields) + len(layout.fields))))
            fields += layout.fields
        self.features = [feature for members in by_view.values() for feature in members]
        self._keys = features[0].keys
        self._head = key_prefix(join_keys) + (b"" if join_keys else string_key(""))
        self._project = feast_project.encode()
        self._start = b"*%d\r\n$5\r\nHMGET\r\n$" % (len(fields) + 2)
        self._end = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in fields)

    def command(self, encoded: Mapping[str, bytes]) -> bytes:
        key = b"".join([self._head, *[encoded[name] for name in self._keys], self._project])
        return b"".join([self._start, b"%d\r\n" % len(key), key, self._end])

    def decode(self, reply: Sequence[bytes | None], now: float) -> OnlineRow:
        values: list[FeatureValue] = []
        statuses: list[str] = []
        times: list[float | None] = []
        is_complete = True
        for layout, part in self._views:
            seen = layout.see(reply[part], now)
            values += seen.values
            statuses += seen.statuses
            times.append(seen.event_time)
            is_complete = is_complete and seen.is_complete
        return OnlineRow(values, statuses, now, times, is_complete)


def _encode_int64(value: object) -> bytes:
    if type(value) is not int or value not in INT64_RANGE:
        raise ValueError
    return _pack_int64(_INT64, value)


def _encode_int32(value: object) -> bytes:
    if type(value) is not int or value not in INT32_RANGE:
        raise ValueError
    return _pack_int32(_INT32, value)


def _encode_string(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    return string_key(value)


def _encode_timestamp(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return _pack_int64(_TIMESTAMP, (moment - _EPOCH) // _SECOND)


_KEY_ENCODERS: dict[str, Callable[[object], bytes]] = {
    "int64": _encode_int64,
    "int32": _encode_int32,
    "string": _encode_string,
    "timestamp": _encode_timestamp,
}
EXPECTED = {
    "int64": "an integer of 64 bits",
    "int32": "an integer of 32 bits",
    "string": "a string",
    "timestamp": "an ISO 8601 time with its zone, such as 2026-01-31T12:00:00Z",
}
"""What each entity key dtype wants, in words."""


def entity_key_schema(key: BundleKey) -> dict[str, object]:
    """Return the JSON Schema of one entity key, for OpenAPI."""
    schema = dict(_SCHEMAS[key.dtype])
    if key.description:
        schema["description"] = key.description
    if key.example is not None:
        schema["examples"] = [key.example]
    return schema


_SCHEMAS: dict[str, dict[str, object]] = {
    "int64": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "int32": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "string": {"type": "string"},
    "timestamp": {"type": "string", "format": "date-time"},
}
