"""The story of `runner plan`: what a training and a materialization would run, and its price.

dbt compiles, Feast's stores write their queries, the warehouse says what it expects of each.
Nothing is run or written there.
"""

from __future__ import annotations

from math import inf
from pathlib import Path

from runner import console
from runner.bytes_billed import over_limit
from runner.commands.builds.built_sql import require_fit
from runner.commands.builds.feature_guard import refused_by_build
from runner.commands.training.plan_steps import Plan
from runner.commands.training.planner import open_planner
from runner.errors import RunnerError
from runner.project.compiled import up_to_date_models
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.references import check_references
from runner.servers.local_servers import require_servers
from runner.settings import Settings

PRICE = "BIGQUERY_PRICE_PER_TIB"


def plan(settings: Settings, path: Path) -> Plan:
    """Return what `runner train` and `runner materialize` of the recipe at `path` would run.

    Raises
    ------
    RunnerError
        If the recipe does not fit dbt's models, dbt cannot compile, or the warehouse is not there.
    """
    recipe = load_recipe(path)
    price = _price_per_tib(settings)
    require_fit(settings, recipe)
    require_servers(settings)
    with console.step("dbt: compile spine and feature marts") as step:
        selected = [recipe.spine, *recipe.feature_marts]
        models = up_to_date_models(settings, selected, step.update)
        changed = tuple(refused_by_build(settings, selected, step.update))
    manifest = load_manifest(settings.manifest_path)
    check_references(recipe, manifest)
    asking = console.step("ask the warehouse what it expects")
    with asking as step, open_planner(settings, manifest) as planner:
        steps = (*planner.dbt_steps(models), *planner.feast_steps(manifest, recipe))
        planned = Plan(steps, price, planner.warehouse.limit, planner.hint(models), changed)
        step.update(f"{len(steps)} steps")
    return planned


def require_price(settings: Settings) -> None:
    """Raise RunnerError on the local target, where nothing has a price."""
    if _price_per_tib(settings) is None:
        raise RunnerError(
            "--max-cost: PostgreSQL bills nothing", hint="leave it out, or plan for --target cloud"
        )


def require_affordable(planned: Plan, max_cost: float | None) -> None:
    """Raise if a query is above the limit of bytes billed, or all together above `max_cost` USD.

    Raises
    ------
    RunnerError
        Naming the step and its bytes. With `max_cost` also if a step could not be estimated: then
        nobody can say what all of them cost.
    """
    for step in planned.steps:
        needed = max((bill.bytes_billed for bill in step.bills), default=0)
        if planned.limit is not None and needed > planned.limit:
            raise over_limit(step.what, needed=needed, limit=planned.limit)
    if max_cost is None:
        return
    if planned.usd > max_cost:
        most = max(planned.steps, key=lambda step: step.bill.bytes_billed)
        raise RunnerError(
            f"the plan costs {planned.usd:.6f} USD, more than --max-cost {max_cost}; most of it is "
            f"{most.what}, billed for {most.bill.bytes_billed:,} bytes, "
            f"{planned.price(most):.6f} USD",
            hint="let it read less (fewer columns, a shorter period), or raise --max-cost",
        )
    unknown = [step for step in planned.steps if step.problem]
    if unknown:
        raise RunnerError(
            f"{len(unknown)} of {len(planned.steps)} steps cannot be estimated, so nobody can say "
            f"that they cost no more than --max-cost {max_cost}; the first is {unknown[0].what}: "
            f"{unknown[0].problem}",
            hint=planned.hint or "correct what it says, then plan again",
        )


def _price_per_tib(settings: Settings) -> float | None:
    """Return USD per 2**40 bytes billed; None on PostgreSQL."""
    if settings.target == "local":
        return None
    text = settings.env.get(PRICE) or "6.25"
    try:
        price = float(text)
    except ValueError:
        price = -1
    if not 0 <= price < inf:
        raise RunnerError(
            f"{PRICE}={text!r} is not a price", hint=f"set {PRICE} to USD per TiB, such as 6.25"
        )
    return price
