"""What `runner ingest` did, in lines."""

from __future__ import annotations

from dataclasses import asdict

from runner import console
from runner.commands.ingestion import Ingested

_SHOWN = 20


def show_ingested(done: Ingested, *, as_json: bool) -> None:
    """Print how many events were written, and which were not."""
    if as_json:
        rejected = [{"row": row, "reason": reason} for row, reason in done.rejected]
        console.result_json({**asdict(done), "rejected": rejected})
        return
    known = f", {done.known:,} were there already" if done.known else ""
    console.result(f"{done.name}: {done.written:,} events written{known}")
    for row, reason in done.rejected[:_SHOWN]:
        console.warn(f"row {row}: {reason}")
    if (more := len(done.rejected) - _SHOWN) > 0:
        console.warn(f"{more:,} more rows are wrong; --json lists all of them")
