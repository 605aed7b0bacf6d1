"""Fetch in a thread: Ctrl-C in the main thread cancels what runs on the server, and is not lost.

In the main thread ADBC replaces Python's handler of SIGINT for the time of a call. A Ctrl-C then
becomes an error of the driver, or nothing at all if the call has just ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Batch = TypeVar("Batch")
_Result = TypeVar("_Result")
_CANCEL_AGAIN_SECONDS = 0.05


def in_thread(work: Callable[[], _Result], cancel: Callable[[], None]) -> _Result:
    """Return what `work` returns; it runs in a thread of its own.

    Parameters
    ----------
    cancel
        Makes `work` fail soon; Ctrl-C calls it until that has happened.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except BaseException:  # also Ctrl-C: leaving the pool would wait for the query
            _end(future, cancel)
            raise


def prefetched(
    batches: Iterator[Batch], cancel: Callable[[], None]
) -> Generator[Batch, None, None]:
    """Yield `batches`, fetched one ahead; giving up early cancels the fetch under way.

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
            _end(following, cancel)
            raise


def _end(future: Future[_Result], cancel: Callable[[], None]) -> None:
    while not future.done():  # a cancel that comes before its query does nothing
        cancel()
        wait([future], timeout=_CANCEL_AGAIN_SECONDS)
