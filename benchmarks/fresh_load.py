"""The load of `benchmarks.fresh`: events, pushes, and probes that wait for answers with them."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field

import httpx

from benchmarks.fresh_project import BASKET, SESSION
from tests.serving_process import Serving, predict

USERS = 10_000
_REQUESTS_PER_SECOND = 20
_PUSHES_PER_SECOND = 10
_ROWS = 100
"""How many rows a request to `/predict` asks for."""


@dataclass
class Measured:
    """Times in seconds.

    Attributes
    ----------
    acknowledged
        Of each request with events.
    refreshed, pushed
        From the acknowledgement of an event or pushed value to an answer that has it.
    retried
        Requests that had to be sent again.
    """

    sent: int = 0
    retried: int = 0
    acknowledged: list[float] = field(default_factory=list)
    refreshed: list[float] = field(default_factory=list)
    pushed: list[float] = field(default_factory=list)


def views_of(event: int) -> int:
    """Return how many views its user has with this event, which are numbered from 0."""
    return event // USERS + 1


def run_load(server: Serving, per_second: int, seconds: int) -> Measured:
    """Send events and pushes; return once predictions have all of them."""
    done, sent = Measured(), queue.SimpleQueue[tuple[int, float] | None]()
    ended = threading.Event()
    threads = [
        threading.Thread(target=_probe, args=(server, sent, done)),
        threading.Thread(target=_push, args=(server, ended, done)),
    ]
    for thread in threads:
        thread.start()
    many = per_second // _REQUESTS_PER_SECOND
    with server.client() as client:
        began = time.monotonic()
        for turn in range(seconds * _REQUESTS_PER_SECOND):
            time.sleep(max(0.0, began + turn / _REQUESTS_PER_SECOND - time.monotonic()))
            _send(client, range(done.sent, done.sent + many), done)
            sent.put((done.sent - 1, time.monotonic()))
    ended.set()
    sent.put(None)
    for thread in threads:
        thread.join()
    return done


def _send(client: httpx.Client, numbers: range, done: Measured) -> None:
    events = [{"view_id": str(number), "user_id": number % USERS} for number in numbers]
    while True:
        asked = time.monotonic()
        answer = client.post("/events/page_views", json={"events": events})
        if answer.status_code == 200:
            break
        done.retried += 1
        time.sleep(0.1)
    assert answer.json() == {"accepted": len(events), "rejected": []}, answer.text
    done.acknowledged.append(time.monotonic() - asked)
    done.sent = numbers.stop


def _probe(
    server: Serving, sent: queue.SimpleQueue[tuple[int, float] | None], done: Measured
) -> None:
    """Ask for the last event of each request until the answer counts it."""
    waiting: list[tuple[int, float]] = []
    more = True
    with server.client() as client:
        while more or waiting:
            while more and not (sent.empty() and waiting):
                item = sent.get()
                if item is None:
                    more = False
                else:
                    waiting.append(item)
            rows = [{"user_id": event % USERS} for event, _ in waiting[:_ROWS]]
            found = _values(client, rows, SESSION) if rows else []
            now = time.monotonic()
            seen = [n for n, value in enumerate(found) if (value or 0) >= views_of(waiting[n][0])]
            done.refreshed += [now - waiting[n][1] for n in seen]
            waiting = [item for n, item in enumerate(waiting) if n not in seen]
            time.sleep(0.02)


def _push(server: Serving, ended: threading.Event, done: Measured) -> None:
    """Push a value, and ask until the answer has it."""
    with server.client() as client:
        number = 0
        while not ended.wait(1 / _PUSHES_PER_SECOND):
            number += 1
            row = {"user_id": number % USERS, "value_usd": float(number)}
            answer = client.post("/push/user_basket", json={"rows": [row]})
            assert answer.status_code == 200, answer.text
            began = time.monotonic()
            while _values(client, [{"user_id": row["user_id"]}], BASKET) != [row["value_usd"]]:
                pass
            done.pushed.append(time.monotonic() - began)


def _values(client: httpx.Client, rows: list[dict[str, int]], name: str) -> list[float | None]:
    answer = predict(client, *rows, include_features=True)
    assert answer.status_code == 200, answer.text
    return [each["features"][name]["value"] for each in answer.json()["predictions"]]
