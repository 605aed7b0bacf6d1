"""A plan as a table and as JSON."""

from __future__ import annotations

from typing import Any

from runner import console
from runner.commands.training.plan_steps import Plan, PlanStep


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print every step with what it is expected to read, and the total."""
    if as_json:
        console.result_json(plan_json(plan))
    else:
        console.result_table("", plan_columns(plan), plan_rows(plan))
    for error in plan.changed:
        console.warn(f"training would be refused: {error.message}\nhint: {error.hint}")


def plan_columns(plan: Plan) -> list[str]:
    """Return the table's headings."""
    if plan.price_per_tib is None:
        return ["step", "", "rows (estimate)", ""]
    return ["step", "", "rows", "bytes", "USD", ""]


def plan_rows(plan: Plan) -> list[list[str]]:
    """Return a row per step and, where there is a price, the total."""
    rows = [_row(plan, step) for step in plan.steps]
    if plan.price_per_tib is not None:
        known = sum(step.bill.bytes_processed for step in plan.steps)
        unknown = sum(bool(step.problem) for step in plan.steps)
        note = f"without {unknown} steps that are not known" if unknown else ""
        rows.append(["total", "", "", f"{known:,}", f"{plan.usd:.6f}", note])
    return rows


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan for scripts: numbers are null where they are not known."""
    priced = plan.price_per_tib is not None
    return {
        "price_per_tib_usd": plan.price_per_tib,
        "maximum_bytes_billed": plan.limit,
        "total_usd": plan.usd if priced else None,
        "complete": not any(step.problem for step in plan.steps),
        "hint": plan.hint,
        "changed_features": [error.message for error in plan.changed],
        "steps": [
            {
                "kind": step.kind,
                "name": step.name,
                "rows": step.rows,
                "bytes": step.bill.bytes_processed if step.bills else None,
                "bytes_billed": step.bill.bytes_billed if step.bills else None,
                "usd": plan.price(step) if step.bills else None,
                "problem": step.problem,
                "sql": list(step.sql),
            }
            for step in plan.steps
        ],
    }


def _row(plan: Plan, step: PlanStep) -> list[str]:
    rows = "" if step.rows is None else f"{step.rows:,}"
    if plan.price_per_tib is None:
        return [step.kind, step.name, rows, step.problem]
    known = ["?", "?"]
    if step.bills:
        known = [f"{step.bill.bytes_processed:,}", f"{plan.price(step):.6f}"]
    return [step.kind, step.name, rows, *known, step.problem]
