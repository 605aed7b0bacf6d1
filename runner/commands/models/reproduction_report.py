"""What `runner reproduce` found, as a table and sentences, or as JSON."""

from __future__ import annotations

from dataclasses import asdict

from runner import console
from runner.commands.models.reproduction import Reproduction


def show_reproduction(found: Reproduction, *, as_json: bool) -> None:
    """Print what was recorded beside what comes out now, and what that means."""
    if as_json:
        lines = [{**asdict(line), "same": line.same} for line in found.lines]
        console.result_json({**asdict(found), "lines": lines})
        return
    console.result_table(
        f"run {found.run_id}: {'reproduced' if found.reproduced else 'NOT reproduced'}",
        ["what", "then", "now", "same"],
        [[line.what, *line.shown, "yes" if line.same else "no"] for line in found.lines],
    )
    for sentence in found.account:
        console.result(f"- {sentence}")
