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

_SMALLEST_CLASS_BITS = 10
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
        self._length = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._length

    def push(self, item: Item) -> None:
        """Append an item to its class."""
        number = _class(item.size)
        waiting = self._classes.get(number)
        if waiting is None:
            waiting = self._classes[number] = deque()
        if not waiting:  # a class that asked for nothing has saved up nothing
            others = [self._served[other] for other, items in self._classes.items() if items]
            self._served[number] = max(self._served.get(number, 0), min(others, default=0))
        waiting.append(item)
        self._length += 1

    def pop(self, may_begin: Callable[[Item], bool]) -> Item | None:
        """Return the next item of the class that was served least, if one of them may begin."""
        served = self._served
        heads = [(served[number], number) for number, items in self._classes.items() if items]
        for _, number in sorted(heads) if len(heads) > 1 else heads:
            waiting = self._classes[number]
            if may_begin(waiting[0]):
                item = waiting.popleft()
                served[number] += item.size + _FIXED_COST
                self._length -= 1
                return item
        return None

    def pop_larger(self, size: int) -> Item | None:
        """Return the last that came of the largest class, if that is larger than `size`'s."""
        largest = max((number for number, items in self._classes.items() if items), default=0)
        if largest <= _class(size):
            return None
        self._length -= 1
        return self._classes[largest].pop()

    def pop_while(self, over: Callable[[Item], bool]) -> Iterator[Item]:
        """Yield the first of each class for as long as it is `over`."""
        for waiting in self._classes.values():
            while waiting and over(waiting[0]):
                self._length -= 1
                yield waiting.popleft()


def _class(size: int) -> int:
    return max(0, (size - 1).bit_length() - _SMALLEST_CLASS_BITS)
