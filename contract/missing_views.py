"""Views that have nothing for a row, and what is done about it: the same rule for every reader.

A view has nothing where all the features that the model takes of it have no value: the entity was
never stored, its row has expired, or every value is NULL. A key typed wrong looks like that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

OnMissing = Literal["predict", "null", "error"]
"""`predict` as ever, answer `null`, or refuse the row. The later counts where views differ."""
ORDER: tuple[OnMissing, ...] = ("predict", "null", "error")


class MissingViews:
    """The views of one model, by the projection that its features are read from.

    Parameters
    ----------
    projections
        Of each feature, in the order of a row: `view` or `view[role]`.
    on_missing
        What to do about a view, by projection; `predict` about the others.
    """

    def __init__(self, projections: Sequence[str], on_missing: Mapping[str, OnMissing]) -> None:
        self._positions: dict[str, list[int]] = {}
        for position, projection in enumerate(projections):
            self._positions.setdefault(projection, []).append(position)
        self._views = [(name, own[0], own) for name, own in self._positions.items()]
        self._actions = {name: on_missing.get(name, ORDER[0]) for name in self._positions}

    @property
    def positions(self) -> Mapping[str, Sequence[int]]:
        """Projection → where its features are in a row."""
        return self._positions

    def of(self, values: Sequence[object]) -> Sequence[str]:
        """Return the views that have nothing, of a row's values; None is no value."""
        return [
            name
            for name, first, positions in self._views
            # The first look is mostly the only one.
            if values[first] is None and all(values[position] is None for position in positions)
        ]

    def action(self, missing: Sequence[str]) -> OnMissing:
        """Return what to do about a row for which these views have nothing."""
        if not missing:
            return ORDER[0]
        return max((self._actions[name] for name in missing), key=ORDER.index)
