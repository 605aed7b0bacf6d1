"""What the shop's warehouse had counted at each midnight: rows count once they have arrived."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from examples.shop.arrival import DAY, Ints


class Ledger:
    """Counts per user and category by day of occurrence, as known at the midnight turned to."""

    def __init__(self, days: int, users: int, categories: int) -> None:
        self._counts = np.zeros((days, users, categories), dtype=np.int16)
        self._pending: dict[int, list[tuple[Ints, Ints, Ints, int]]] = defaultdict(list)

    def add(self, user: Ints, category: Ints, occurred_at: Ints, loaded_at: Ints) -> None:
        """Count each row from the first midnight after it occurred by which it was loaded."""
        # A row of this very midnight is not before it, so it waits for the next one.
        known = np.maximum(-(-loaded_at // DAY), occurred_at // DAY + 1)
        self._enter(user, category, occurred_at // DAY, known, 1)

    def remove(self, user: Ints, category: Ints, occurred_at: Ints, loaded_at: Ints) -> None:
        """Count each row no more from the first midnight by which its removal was loaded."""
        known = np.maximum(-(-loaded_at // DAY), occurred_at // DAY + 1)
        self._enter(user, category, occurred_at // DAY, known, -1)

    def turn(self, day: int) -> None:
        """Bring in what has arrived by the midnight that begins `day`."""
        for row, user, category, sign in self._pending.pop(day, []):
            np.add.at(self._counts, (row, user, category), sign)

    def window(self, day: int, days: int) -> npt.NDArray[np.int64]:
        """Return the counts of the `days` days before `day`, shape (n_users, n_categories)."""
        total: npt.NDArray[np.int64] = self._counts[max(0, day - days) : day].sum(
            axis=0, dtype=np.int64
        )
        return total

    def _enter(self, user: Ints, category: Ints, day: Ints, known: Ints, sign: int) -> None:
        inside = day < len(self._counts)
        for midnight in np.unique(known[inside]):
            now = inside & (known == midnight)
            self._pending[int(midnight)].append((day[now], user[now], category[now], sign))
