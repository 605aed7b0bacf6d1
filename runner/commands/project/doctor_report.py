"""What `runner doctor` found, a line for each check, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from runner import console
from runner.commands.project.doctor import Finding


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print the findings in the order of the checks."""
    if as_json:
        console.result_json([asdict(finding) for finding in findings])
        return
    for found in findings:
        hint = f"; hint: {found.hint}" if found.hint else ""
        state = "OK" if found.is_ok else "problem"
        console.result(f"{state:8}{found.check}: {found.message}{hint}")
