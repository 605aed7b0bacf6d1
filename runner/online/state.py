"""What the online store knows about its own contents: a watermark and definitions per view.

It lies in Redis beside the data, so that a flushed store starts from scratch again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from contract.view_state import (
    DIGESTS,
    WATERMARK,
    FeatureDigests,
    state_key,
    stored_digests,
)
from runner.online.connection import OnlineConnection
from runner.online.our_values import OurValues, WrittenTimes
from runner.online.watermark import Watermark, key_dtypes, parse_watermark
from runner.project.manifest import FeatureMart


class ViewState:
    """The watermark of one view, and whether a run has begun since without ending.

    Attributes
    ----------
    features
        Names of the features that runs have written, complete or not.
    join_keys
        The join keys they were written for, name → dtype; None: version 0.1 did not say.
    written
        What has been written since the last comparison.
    """

    def __init__(self, connection: OnlineConnection, project: str, view: str) -> None:
        self._client = connection.client
        self.view = view
        self.written = WrittenTimes(connection, project, view)
        self._key = state_key(project, view)
        raw = self._client.hgetall(self._key)
        started, watermark = raw.get(b"started"), raw.get(WATERMARK.encode())
        self.watermark = parse_watermark(watermark) if watermark else None
        self.started = datetime.fromisoformat(started.decode()) if started else None
        self._only_followed = raw.get(b"scope") == b"arrived"
        self.features: set[str] = set(json.loads(raw.get(b"features", "[]")))
        self._digests = stored_digests(raw.get(DIGESTS.encode()))
        self.join_keys: dict[str, str] | None = json.loads(raw.get(b"join_keys", "null"))

    @property
    def is_dirty(self) -> bool:
        """True when a run has begun since the watermark and never ended."""
        return self.started is not None

    def newest_instant(self) -> datetime | None:
        """Return the latest instant that any of the store's contents may be of."""
        known = [self.started, self.watermark.as_of if self.watermark else None]
        return max(filter(None, known), default=None)

    def ours(self, pushed_until: float | None) -> OurValues:
        """Return which stored values, newer than the mart's, can only have come from the mart.

        The rows of those values were deleted there. If the last comparison met no value of another
        process, all that is stored up to its instant came from the mart; so did all that runs have
        written since while they followed new rows.

        Parameters
        ----------
        pushed_until
            The event time, in Unix seconds, up to which the mart has had what was pushed, whatever
            the last comparison met; None: the view takes no pushes.
        """
        last = self.watermark
        if last is not None and pushed_until:
            until = min(last.comparison.as_of, datetime.fromtimestamp(pushed_until, UTC))
            return OurValues(until, self.written)
        if last is None or pushed_until is not None or last.comparison.kept_newer:
            return OurValues(None, self.written)
        instants = [last.comparison.as_of]
        if self.started is not None and not self._only_followed:
            instants.append(self.started)
        return OurValues(max(instants), self.written)

    def outlives(self, ttl: int | None) -> bool:
        """Return whether the keys that the last comparison confirmed have half of their life left.

        The state itself lives as long as they do. None: they live for ever.
        """
        left: int = self._client.pttl(self._key)
        return ttl is None or ttl * 500 < left <= ttl * 1_000

    def with_known_digests(self, digests: FeatureDigests | None) -> FeatureDigests | None:
        """Return `digests` with those that the store has of the same definitions."""
        if digests is None or self._digests is None:
            return digests
        known = {name: self._digests.get(name, ()) for name in digests}
        return {
            name: [*dict.fromkeys([*found, *(known[name] if {*found} & {*known[name]} else ())])]
            for name, found in digests.items()
        }

    def begin(
        self,
        as_of: datetime,
        mart: FeatureMart,
        digests: FeatureDigests | None,
        *,
        follows: bool = False,
    ) -> None:
        """Note that contents may from now on be of `as_of`, and of these features and join keys.

        Until the run is complete, keep only the digests that stored and new values share, so that
        no reader takes the values of a changed feature for those that it knows.

        Parameters
        ----------
        digests
            By feature: of the definitions that its values have; None: not known.
        follows
            Whether all that it writes is noted in `written`.
        """
        if self._digests is not None and digests is not None:
            common = {
                name: [each for each in known if each in digests.get(name, ())]
                for name, known in self._digests.items()
            }
            self._client.hset(self._key, DIGESTS, json.dumps(common))
        content = {
            "started": as_of.isoformat(),
            "scope": "arrived" if follows else "all",
            "features": json.dumps([column.name for column in mart.features]),
            "join_keys": json.dumps(key_dtypes(mart)),
        }
        self._client.hset(self._key, mapping=content)

    def distrust(self) -> None:
        """Delete the watermark: the next run copies everything."""
        self._client.hdel(self._key, WATERMARK)

    def forget(self) -> None:
        """Delete all that is known; the data must be gone."""
        self._client.delete(self._key)
        self.written.clear()

    def complete(
        self, watermark: Watermark, life: float | None, digests: FeatureDigests | None
    ) -> None:
        """Move the watermark; the data must be in.

        Parameters
        ----------
        life
            Seconds for which every key of the view lives at least; None: unchanged.
        """
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hdel(self._key, "started")
            pipe.hset(self._key, WATERMARK, watermark.to_json())
            if digests is None:
                pipe.hdel(self._key, DIGESTS)
            else:
                pipe.hset(self._key, DIGESTS, json.dumps(digests))
            if life is not None:
                pipe.pexpire(self._key, max(1, int(life * 1_000)))
            pipe.execute()
        if watermark.compared is None:
            self.written.clear()


def known_views(connection: OnlineConnection, project: str) -> list[str]:
    """Return the views that the online store has anything of, as runs have noted."""
    prefix = state_key(project, "").encode()
    keys = {key for found in connection.scan(prefix, 1_000) for key in found}
    names = {key.removeprefix(prefix).decode() for key in keys}
    return sorted(name for name in names if ":" not in name)  # the leases of a project `lease`
