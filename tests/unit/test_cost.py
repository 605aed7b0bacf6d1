"""A month's bill: from fixed inputs, beside the reference design's rows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from runner.bytes_billed import LEAST_BILLED, Billed
from runner.commands.cloud import prices
from runner.commands.cloud.cost import REFERENCE, MonthlyCost, bytes_per_month, require_within
from runner.commands.cloud.deployment_sizes import (
    DeploymentSizes,
    RedisElsewhere,
    read_sizes,
    runs_per_month,
)
from runner.commands.cloud.monthly_bill import BillPart, MonthOfUse, monthly_bill
from runner.commands.training.plan_steps import Plan, PlanStep
from runner.errors import RunnerError

ROOT = Path(__file__).resolve().parents[2]
TB = 10**12
# The use that the reference design's two rows are of; their network is given in USD alone.
ROWS = {
    1_000: MonthOfUse(1_000, 5 * TB, stored_gib=50, warehouse_gib=0, network_gib=5 / 0.12),
    10_000: MonthOfUse(10_000, 20 * TB, stored_gib=200, warehouse_gib=0, network_gib=10 / 0.12),
}


@pytest.fixture(name="sizes")
def _sizes() -> DeploymentSizes:
    """The deployment as it is shipped."""
    return read_sizes(ROOT, "prod")


def bill(sizes: DeploymentSizes, predictions: int) -> dict[str, int]:
    """Return whole USD by part, and their sum, for a row of the reference design."""
    parts = monthly_bill(sizes, ROWS[predictions], 6.25)
    total = sum(part.usd for part in parts)
    return {part.name: round(part.usd) for part in parts} | {"total": round(total)}


def test_the_reference_rows_at_list_prices_are_those_in_the_docs(sizes: DeploymentSizes) -> None:
    page = (ROOT / "docs" / "cloud.md").read_text()
    elsewhere = sizes.model_copy(update={"online_store": RedisElsewhere(kind="external")})
    rows = {
        "shipped": (bill(sizes, 1_000), bill(sizes, 10_000)),
        "external": (bill(elsewhere, 1_000), bill(elsewhere, 10_000)),
    }
    for part, small in rows["shipped"][0].items():
        shown = re.search(rf"^\| {part} \| (\d+) \|[^|]*\| (\d+) \|", page, re.MULTILINE)
        assert shown is not None, part
        assert (int(shown[1]), int(shown[2])) == (small, rows["shipped"][1][part]), part
    cheaper = re.search(r"`kind: external` lowers the total to (\d+) USD", page)
    assert cheaper is not None
    assert int(cheaper[1]) == rows["external"][0]["total"]
    assert f"{REFERENCE[1_000]:.0f}" in page
    assert f"{REFERENCE[10_000]:.0f}" in page


@pytest.mark.parametrize(
    ("cron", "times"),
    [
        (None, 0),
        ("0 * * * *", 730),
        ("*/30 * * * *", 1460),
        ("0 3 * * *", 365 / 12),
        ("0 3 * * 1", 365 / 12 / 7),
        ("0 3 * * 0,7", 365 / 12 / 7),
        ("0 3 1 * *", 365 / 12 / 31),
        ("15,45 8-17/3 * * 1-5", 8 * 365 / 12 * 5 / 7),
        ("0 0 1 */3 *", 365 / 12 / 31 / 3),
        ("5/20 * * * *", 3 * 730),
    ],
)
def test_a_schedule_runs_so_often_in_a_month(cron: str | None, times: float) -> None:
    assert runs_per_month(cron) == pytest.approx(times)


def step(kind: str, name: str, mebibytes: int, problem: str = "") -> PlanStep:
    """Return a step of a plan that is billed for so much."""
    billed = mebibytes * 2**20
    return PlanStep(kind, name, bills=(Billed(billed, billed),), problem=problem)  # type: ignore[arg-type]


def test_bytes_are_those_of_the_plan_times_the_schedules(sizes: DeploymentSizes) -> None:
    shared = step("dbt model", "orders", 100), step("materialize", "orders", 40)
    plans = [
        Plan((*shared, step("join", "a", 7), step("sweep", "orders", 20)), 6.25),
        Plan((*shared, step("split", "b", 10), step("join", "b", 3)), 6.25),
    ]
    materialize = (100 + 40 + 20) * 2**20 + LEAST_BILLED
    weekly = (100 + 7 + 100 + 10 + 3) * 2**20
    join = (7 + 3) * 2**20
    hourly, daily = 2 * LEAST_BILLED + materialize, join + materialize
    expected = 730 * hourly + 365 / 84 * (weekly + join) + 365 / 12 * daily
    assert bytes_per_month(sizes, plans) == pytest.approx(expected)


def test_an_instance_that_is_kept_costs_and_one_with_its_cpu_costs_more(
    sizes: DeploymentSizes,
) -> None:
    def api(**changes: object) -> float:
        changed = sizes.model_copy(update={"api": sizes.api.model_copy(update=changes)})
        return {p.name: p.usd for p in monthly_bill(changed, ROWS[1_000], 6.25)}["API"]

    assert api() < 1 < api(min_instances=1) < api(min_instances=1, cpu_always=True)


def test_what_costs_more_than_allowed_or_is_not_known_is_refused() -> None:
    found = MonthlyCost(
        "prod", 1_000, [BillPart("Redis", 36.0, ""), BillPart("API", 1, "")], [], ""
    )
    require_within(found, 40)
    with pytest.raises(RunnerError, match=r"37.00 USD, more than --max-cost 30; .* Redis, 36.00"):
        require_within(found, 30)
    unknown = [step("join", "a", 0, "not built yet: a")]
    with pytest.raises(RunnerError, match=r"1 steps cannot be estimated.*join a: not built yet"):
        require_within(replace(found, unknown=unknown), 40)


def test_settings_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"deploy/Pulumi\.prod\.yaml: no settings"):
        read_sizes(tmp_path, "prod")
    (tmp_path / "deploy").mkdir()
    text = (ROOT / "deploy" / "Pulumi.prod.yaml").read_text()
    (tmp_path / "deploy" / "Pulumi.prod.yaml").write_text(text.replace("cpu: 1\n", "cpu: one\n"))
    with pytest.raises(RunnerError, match=r"api\.cpu"):
        read_sizes(tmp_path, "prod")


def test_every_price_says_where_and_when_it_was_read() -> None:
    tables = [v for v in vars(prices).values() if isinstance(v, dict)]
    found = [v for v in vars(prices).values() if isinstance(v, prices.Price)]
    found += [v for table in tables for v in table.values() if isinstance(v, prices.Price)]
    assert len(found) > 20
    for price in found:
        assert price.usd > 0
        assert price.source.startswith("https://") or price is prices.REDIS_EXTERNAL
