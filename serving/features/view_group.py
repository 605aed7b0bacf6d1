"""Views that one command reads: its Redis key, its fields, its reply."""

from __future__ import annotations

from collections.abc import Sequence

from contract.bundle import BundleFeature
from contract.feast_format import key_prefix, string_key
from contract.values import FeatureValue
from contract.view_layout import StoredView, ViewLayout
from serving.features.online_row import OnlineRow

GroupReplies = Sequence[Sequence[StoredView]]
"""For each group of views, the replies to its commands."""


class ViewGroup:
    """The views with the same join keys of the same entities, read by one HMGET.

    Attributes
    ----------
    views, features
        The views, each as `view` or `view[role]`, and their features, view by view.
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

    def keys(self, encoded: Sequence[Sequence[bytes]]) -> list[bytes]:
        """Return the Redis key of each row's hash, of the rows' encoded keys."""
        if self._keys is not None:
            encoded = [[row[at] for at in self._keys] for row in encoded]
        head, project = self._head, self._project
        return [b"".join((head, *row, project)) for row in encoded]

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
