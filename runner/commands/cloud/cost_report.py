"""A month's bill as a table and as JSON."""

from __future__ import annotations

from runner import console
from runner.commands.cloud import prices
from runner.commands.cloud.cost import REFERENCE, MonthlyCost


def show_cost(found: MonthlyCost, *, as_json: bool) -> None:
    """Print the bill by part, its total and the reference design's."""
    if as_json:
        console.result_json(
            {
                "stack": found.stack,
                "predictions_per_month": found.predictions,
                "total_usd": found.usd,
                "complete": not found.unknown,
                "hint": found.hint,
                "parts": [
                    {"name": part.name, "usd": part.usd, "how": part.how} for part in found.parts
                ],
                "reference_usd": {str(count): usd for count, usd in REFERENCE.items()},
            }
        )
        return
    rows = [[part.name, f"{part.usd:.2f}", part.how] for part in found.parts]
    note = f"without {len(found.unknown)} steps that are not known" if found.unknown else ""
    rows.append(["total", f"{found.usd:.2f}", note])
    for count, usd in REFERENCE.items():
        rows.append(["reference design", f"{usd:.2f}", f"{count:,} predictions a month"])
    console.result_table("", ["part", "USD a month", ""], rows)
    console.note(
        f"list prices of us-central1, read {prices.CPU_IN_REQUESTS.read}, without free tiers; "
        "`runner help cloud` says where"
    )
