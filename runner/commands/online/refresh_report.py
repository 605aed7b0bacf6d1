"""A round of `runner refresh`, in one line."""

from __future__ import annotations

from datetime import UTC, datetime

from runner import console
from runner.commands.online.round_outcome import Round
from runner.online.refresh_state import ago
from runner.wording import counted


def show_round(done: Round) -> None:
    """Print what the round did."""
    now = datetime.now(UTC)
    built = f"built {', '.join(done.built)}" if done.built else "nothing to build"
    parts = [f"{counted(done.collected, 'row')} collected", built]
    parts.append(f"{done.written:,} written, {done.removed:,} removed")
    if done.compared:
        parts.append(f"all compared {ago(now, done.compared)}")
    if done.newest:
        parts.append(f"features from {ago(now, done.newest)}")
    console.result(f"{now:%H:%M:%S} UTC  {'; '.join(parts)}  ({done.seconds:.1f} s)")
