"""Which revisions answer after a release or a rollback."""

from __future__ import annotations

from collections.abc import Sequence

from runner import console
from runner.commands.cloud.release import Released


def show_released(released: Sequence[Released]) -> None:
    """Print a line for each API, or that nothing is new."""
    if not released:
        console.result("nothing to release: the deployed revisions are those of this project")
    for one in released:
        console.result(f"{one.api}: {one.revision} answers every request (before: {one.before})")
