"""Read ahead: the next batch of rows is fetched while the last one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Batch = TypeVar("Batch")


def prefetched(
    batches: Iterator[Batch], cancel: Callable[[], None]
) -> Generator[Batch, None, None]:
    """Yield `batches`, one ahead; whoever gives up early cancels what is being fetched.

    Parameters
    ----------
    cancel
        Makes a fetch under way fail soon; it is called until that has happened.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(next, batches, None)
        try:
            while (batch := following.result()) is not None:
                following = pool.submit(next, batches, None)
                yield batch
        except BaseException:  # also Ctrl-C and a consumer that gives up: the thread must end
            while not following.done():  # a cancel that comes before its query does nothing
                cancel()
                wait([following], timeout=0.05)
            raise
