"""The answer of a smoke test."""

from __future__ import annotations

from runner import console
from runner.commands.cloud.smoke_test import SmokeTest


def show_smoke_test(passed: SmokeTest, url: str) -> None:
    """Print what the API and the batch answered; warn if the row has no features."""
    numbers = ", ".join(f"{name}: {number}" for name, number in passed.numbers.items())
    console.result(
        f"{url}: {passed.model} version {passed.version} is ready and answers as "
        f"`runner predict` does: {numbers}"
    )
    if passed.missing_views:
        console.warn(f"the row has nothing in {', '.join(sorted(passed.missing_views))}")
