"""What `runner collect` did, in lines."""

from __future__ import annotations

from runner import console
from runner.commands.served.collection import Collected
from runner.wording import counted


def show_collected(done: Collected) -> None:
    """Print how many rows were written and deleted; warn of what is missing."""
    known = f", {done.known:,} were there already" if done.known else ""
    console.result(f"{done.table}: {counted(done.written, 'row')} written{known}")
    if done.deleted:
        console.result(f"{done.table}: {counted(done.deleted, 'row')} of earlier days deleted")
    if done.lost:
        console.warn(
            f"{done.lost:,} answered rows are lost: Redis did not confirm them, or had no room "
            "to keep them; collect more often, or raise SERVING_LOG_MAX_BYTES"
        )
    for events in done.events:
        repeated = f", {events.known:,} were there already" if events.known else ""
        if events.error is None:
            console.result(f"{events.name}: {counted(events.written, 'event')} written{repeated}")
        if events.foreign:
            console.warn(
                f"{events.name}: {events.foreign:,} entries that another version wrote are dropped"
            )
    if done.is_outdated:
        console.note(
            "the project's YAML is newer than dbt's manifest: if a table that takes events was "
            "declared or changed, run `dbt parse`, then `runner collect`"
        )
    if done.foreign:
        console.warn(
            f"{done.foreign:,} entries of the stream are no rows of this version's serving log; "
            "they are dropped"
        )
