"""One view of one entity as the online store holds it: what every reader makes of it, judged here.

A feature is `present`; `null`, stored as NULL or NaN; `missing`, never stored; or `expired`, stored
with a row that is older than the view's ttl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from contract.feast_format import field_hash, time_field
from contract.serving_errors import InvalidOnlineValueError
from contract.values import (
    CAP_IT,
    DECODERS,
    UNREADABLE,
    BeyondFloat32Error,
    FeatureValue,
    StoredValues,
    decode_timestamp,
    run_decoders,
)

PRESENT = "present"
NULL = "null"
MISSING = "missing"
EXPIRED = "expired"
CHANGED = "changed"
"""Present, and of another definition than the model was trained on."""
STATUSES = (PRESENT, NULL, MISSING, EXPIRED)

StoredView = StoredValues
"""The replies for `ViewLayout.fields`."""


class SeenView:
    """A view of one entity as it is seen at one instant, each list in the order of its features.

    Attributes
    ----------
    event_time
        When the row became knowable, in Unix seconds; None: the entity is not stored.
    values
        Exact values; None unless the status is `present`.
    is_complete
        Whether all of them are present.
    """

    __slots__ = ("event_time", "is_complete", "statuses", "values")

    def __init__(
        self,
        event_time: float | None,
        values: Sequence[FeatureValue],
        statuses: Sequence[str],
        is_complete: bool = False,
    ) -> None:
        self.event_time = event_time
        self.values = values
        self.statuses = statuses
        self.is_complete = is_complete


class ViewLayout:
    """Where a view's values lie in its entities' hashes, and what they mean.

    Parameters
    ----------
    dtypes
        By feature name.
    ttl_seconds
        None: values never expire.
    fields
        The features' fields where a serving bundle names them; default: Feast's.

    Attributes
    ----------
    fields
        What to ask for: the event time, then each feature.
    dtypes, ttl_seconds
        The parameters.
    """

    def __init__(
        self,
        view: str,
        dtypes: Mapping[str, str],
        ttl_seconds: float | None,
        fields: Sequence[bytes] = (),
    ) -> None:
        self.view = view
        self.dtypes = dtypes
        self.ttl_seconds = ttl_seconds
        features = fields or [field_hash(view, name) for name in dtypes]
        self.fields = (time_field(view), *features)
        self._runs = run_decoders(list(dtypes.values()))
        self._present = (PRESENT,) * len(dtypes)
        self._expired = (EXPIRED,) * len(dtypes)
        self._nulls = (None,) * len(dtypes)
        self._nothing = SeenView(None, self._nulls, (MISSING,) * len(dtypes))

    def see(self, stored: StoredView, now: float) -> SeenView:
        """Return the view as it is seen at `now`, in Unix seconds.

        Raises
        ------
        InvalidOnlineValueError
            If the event time is no time, or a value that has not expired is not of its type or no
            model could take it.
        """
        time = self.event_time(stored)
        if time is None:
            return self._nothing
        if self.ttl_seconds is not None and now - time > self.ttl_seconds:
            statuses: Sequence[str] = self._expired
            if None in stored:
                statuses = [MISSING if data is None else EXPIRED for data in stored[1:]]
            return SeenView(time, self._nulls, statuses)
        values = self.values(stored)
        if None not in values:
            return SeenView(time, values, self._present, True)
        pairs = zip(stored[1:], values, strict=True)
        return SeenView(time, values, [_status(data, value) for data, value in pairs])

    def event_time(self, stored: StoredView) -> float | None:
        """Return when the row became knowable, or None; raises as `see`."""
        data = stored[0]
        if data is None:
            return None
        try:
            return decode_timestamp(data)
        except UNREADABLE as err:
            raise InvalidOnlineValueError(
                f"the online store's event time of {self.view} is not a time",
                hint=f"run `runner materialize --full {self.view}`",
            ) from err

    def values(self, stored: StoredView) -> list[FeatureValue]:
        """Return the values, however old; None for what is null or missing; raises as `see`."""
        features = stored[1:]
        values: list[FeatureValue] = []
        try:
            for run, decode in self._runs:
                values += decode(features[run])
        except UNREADABLE as err:
            raise self._unreadable(features) from err
        return values

    def _unreadable(self, stored: StoredView) -> InvalidOnlineValueError:
        """Return the error that names the first feature whose value cannot be read."""
        name, fault = next(
            (name, fault)
            for (name, dtype), data in zip(self.dtypes.items(), stored, strict=True)
            if data is not None and (fault := _fault(DECODERS[dtype], data)) is not None
        )
        if isinstance(fault, BeyondFloat32Error):
            return InvalidOnlineValueError(
                f"the online store's {self.view}:{name}: {fault}",
                hint=f"{CAP_IT}; then `runner materialize {self.view}`",
            )
        return InvalidOnlineValueError(
            f"the online store's {self.view}:{name} is not {self.dtypes[name]}",
            hint=f"run `runner materialize --full {self.view}`",
        )


def _fault(read: Callable[[bytes], FeatureValue], data: bytes) -> Exception | None:
    try:
        read(data)
    except UNREADABLE as err:
        return err
    return None


def _status(data: bytes | None, value: object) -> str:
    if data is None:
        return MISSING
    return NULL if value is None else PRESENT
