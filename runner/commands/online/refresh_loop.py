"""`runner refresh`: rounds, one after another, until it is asked to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from runner import console
from runner.commands.online.refresh_round import Refresher
from runner.commands.online.round_outcome import Round
from runner.duration import option_duration
from runner.failures import explain
from runner.settings import Settings


def refresh(
    settings: Settings,
    recipes: Sequence[Path],
    every: str | None,
    show: Callable[[Round], None],
) -> None:
    """Run one round, or one per interval until Ctrl-C or SIGTERM, which let a round end.

    A round that fails prints an error line, and the next one runs as usual.

    Parameters
    ----------
    every
        From the beginning of one round to that of the next, such as `30s`; None: one round.
    show
        Called with each round that succeeded.
    """
    interval = None if every is None else option_duration("--every", every, "30s")
    with closing(Refresher(settings, recipes)) as refresher:
        if interval is None:
            show(refresher.round())
        else:
            _go_on(refresher, interval.total_seconds(), show)


def _go_on(refresher: Refresher, interval: float, show: Callable[[Round], None]) -> None:
    with _asked_to_end() as ended:
        while not ended.is_set():
            started = time.monotonic()
            try:
                show(refresher.round())
            except Exception as err:  # servers come back, SQL is corrected: the loop goes on
                known = explain(err)
                told = f"{known.message}; {known.hint}" if known else f"{type(err).__name__}: {err}"
                console.error(f"{datetime.now(UTC):%H:%M:%S} UTC {told}")
            ended.wait(max(0.0, interval - (time.monotonic() - started)))


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; the second has its usual effect."""
    ended = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(_number: int, _frame: object) -> None:
        ended.set()
        restore()

    for number in before:
        signal.signal(number, end)
    try:
        yield ended
    finally:
        restore()
