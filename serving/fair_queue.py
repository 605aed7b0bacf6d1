"""Requests that wait their turn, so that small ones are not starved by large ones.

They wait in classes by size: up to a kibibyte, up to two, up to four and so on. Each class gets the
same share of the work that is done (fair queueing), and within a class who came first is served
first. Whoever sends large requests only, however many, thus shares with others of their kind; one
that asks for a few rows waits for what is under way, and no longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

_SMALLEST_CLASS_BYTES = 1_024
_FIXED_COST = 64
"""What a request costs beside its bytes, in bytes."""


class Sized(Protocol):
    """What waits."""

    @property
    def size(self) -> int:
        """How many bytes its body has."""


Item = TypeVar("Item", bound=Sized)


class FairQueue(Generic[Item]):
    """Items in classes by size, each class first in, first out."""

    def __init__(self) -> None:
        self._classes: dict[int, deque[Item]] = {}
        self._served: dict[int, int] = {}
        self._now = 0  # what the class that was served last had been served before
        self._length = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._length

    def push(self, item: Item) -> None:
        """Append an item to its class."""
        number = _class(item.size)
        waiting = self._classes.get(number)
        if waiting is None:  # a class that asked for nothing has saved up nothing
            self._served[number] = max(self._served.get(number, 0), self._now)
            waiting = self._classes[number] = deque()
        waiting.append(item)
        self._length += 1

    def pop(self, may_begin: Callable[[Item], bool]) -> Item | None:
        """Return the next item of the class that was served least, if one of them may begin."""
        classes = list(self._classes)
        if len(classes) > 1:
            classes.sort(key=self._served.__getitem__)
        for number in classes:
            item = self._classes[number][0]
            if may_begin(item):
                self._now = max(self._now, self._served[number])
                self._served[number] += item.size + _FIXED_COST
                return self._take(number, 0)
        return None

    def pop_larger(self, size: int) -> Item | None:
        """Return the last that came of the largest class, if that is larger than `size`'s."""
        largest = max(self._classes, default=0)
        return self._take(largest, -1) if largest > _class(size) else None

    def pop_while(self, over: Callable[[Item], bool]) -> Iterator[Item]:
        """Yield the first of each class for as long as it is `over`."""
        for number in list(self._classes):
            while number in self._classes and over(self._classes[number][0]):
                yield self._take(number, 0)

    def _take(self, number: int, position: int) -> Item:
        waiting = self._classes[number]
        item = waiting.pop() if position else waiting.popleft()
        if not waiting:
            del self._classes[number]
        self._length -= 1
        return item


def _class(size: int) -> int:
    return (size // _SMALLEST_CLASS_BYTES).bit_length()
