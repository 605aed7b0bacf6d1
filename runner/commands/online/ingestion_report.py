"""What `runner ingest` or `runner push` did, in lines."""

from __future__ import annotations

from dataclasses import asdict

from runner import console
from runner.commands.online.event_file import ONLY_THE_REST
from runner.commands.online.ingestion import Ingested
from runner.commands.online.pushing import Pushed
from runner.wording import counted

_SHOWN = 20


def show_pushed(done: Pushed, *, as_json: bool) -> None:
    """Print how many rows were pushed, and which were not."""
    if as_json:
        console.result_json(_named(done))
        return
    console.result(f"{done.name}: {counted(done.written, 'row')} pushed{_known(done)}")
    if done.older:
        console.note(f"{done.older:,} are older than the online store's values, which stay")
    _show_rejected(done)


def show_ingested(done: Ingested, *, as_json: bool) -> None:
    """Print how many events were written, and which were not."""
    if as_json:
        console.result_json(_named(done))
        return
    console.result(f"{done.name}: {counted(done.written, 'event')} written{_known(done)}")
    _show_rejected(done)


def _named(done: Pushed | Ingested) -> dict[str, object]:
    rejected = [{"row": row, "reason": reason} for row, reason in done.rejected]
    return {**asdict(done), "rejected": rejected}


def _known(done: Pushed | Ingested) -> str:
    return f", {done.known:,} were there already" if done.known else ""


def _show_rejected(done: Pushed | Ingested) -> None:
    for row, reason in done.rejected[:_SHOWN]:
        console.warn(f"row {row}: {reason}")
    if (more := len(done.rejected) - _SHOWN) > 0:
        console.warn(f"{more:,} more rows are wrong; --json lists all of them")
    if done.rejected:
        console.note(f"hint: correct these rows; {ONLY_THE_REST}")
