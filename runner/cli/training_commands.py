"""Commands from a recipe to a registered model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runner import console
from runner.command_line import Accepted, AsJson, Recipe, Target
from runner.commands.project import completion
from runner.settings import load_settings

app = typer.Typer()
command = partial(app.command, rich_help_panel="Train")


@command()
def new(
    name: Annotated[
        str, typer.Argument(help="The recipe's name: recipes/NAME.yaml.", show_default=False)
    ],
    spine: Annotated[
        str | None, typer.Option(help="The spine. Default: the only one.", show_default=False)
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Its label. Default: the only one.", show_default=False)
    ] = None,
    target: Target = None,
) -> None:
    """Write a commented recipe for a spine, with every feature mart that joins to it.

    Connects to no server. dbt reads the project (`dbt parse`) if it changed since the last time.
    Never overwrites a file.
    """
    from runner.commands.training.new_recipe import write_recipe

    path = write_recipe(load_settings(target), name, spine, label)
    console.result(f"{path}: written")
    console.note(f"next: read it, then runner check {path} and runner train {path}")


@command("new-version")
def new_version(
    mart: Annotated[
        str,
        typer.Argument(
            help="A feature mart, such as user_activity.",
            show_default=False,
            autocompletion=completion.views,
        ),
    ],
    target: Target = None,
) -> None:
    """Copy a feature mart as its next version, so that served models keep the one they read.

    Writes `MART_v2.sql` and declares the version in the mart's YAML, by dbt's model versions.
    Version 1 keeps its table and its name. Change the copy, and name it in a recipe:
    `MART.v2:feature`.
    """
    from runner.commands.builds.new_version import write_version

    written = write_version(load_settings(target), mart)
    console.result(f"{written.sql}: written; {written.yaml}: version declared")
    console.note(f"next: change {written.sql}, and write {written.reference}:… in a recipe")


@command()
def check(
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipes. Default: all in recipes/.",
            show_default=False,
            autocompletion=completion.recipes,
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Check recipes without running them: keys, dbt models, features, arguments, scorers, gate.

    Connects to no server. dbt reads the project (`dbt parse`) if it changed since the last time.
    Prints each mistake as `file:line:column: key: what was expected`. Exits with 1 if there is any.
    """
    from runner.commands.training.checking import check as check_recipes
    from runner.commands.training.checking_report import show_problems

    checked = check_recipes(load_settings(target), recipes or [])
    show_problems(checked, as_json=as_json)
    if any(checked.values()):
        raise typer.Exit(1)


@command()
def plan(
    recipe: Recipe,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            metavar="USD",
            min=0,
            help="Exit with 1 if the total is higher, or is not known.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the SQL.")] = False,
    target: Target = None,
) -> None:
    """Show what training and materializing would run, and what it costs; run nothing.

    On BigQuery a dry run of each query gives bytes and price per step; on PostgreSQL the planner
    estimates rows. Exits with 1 if a query exceeds the limit of bytes billed.
    """
    from runner.commands.training.plan import plan as plan_recipe
    from runner.commands.training.plan import require_affordable, require_price
    from runner.commands.training.plan_report import show_plan

    settings = load_settings(target)
    if max_cost is not None:
        require_price(settings)
    planned = plan_recipe(settings, recipe)
    show_plan(planned, as_json=as_json)
    require_affordable(planned, max_cost)
    if planned.hint:
        console.note(f"hint: {planned.hint}")


@command()
def cost(
    predictions: Annotated[
        int,
        typer.Option("--predictions-per-month", metavar="N", min=0, help="How many are asked for."),
    ] = 10_000,
    stack: Annotated[
        str, typer.Option(help="The stack in `deploy/` whose settings count.")
    ] = "prod",
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            metavar="USD",
            min=0,
            help="Exit with 1 if the month costs more, or if that is not known.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Show what a month on Google Cloud costs, by part; run nothing.

    BigQuery's part is that of `runner plan` for each deployed recipe, times the schedules. The rest
    follows from the sizes in `deploy/`, at list prices.
    """
    from runner.commands.cloud.cost import cost as cost_of_month
    from runner.commands.cloud.cost import require_within
    from runner.commands.cloud.cost_report import show_cost

    found = cost_of_month(load_settings(target), stack, predictions)
    show_cost(found, as_json=as_json)
    if max_cost is not None:
        require_within(found, max_cost)


@command()
def train(
    recipe: Recipe,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Take the tables as they are, without dbt build.")
    ] = False,
    accepted: Accepted = "",
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Train the recipe's ML model and register it.

    Builds the spine and feature marts with dbt, joins features point-in-time through Feast, fits
    with scikit-learn, records everything in MLflow and registers a version. It becomes the
    `champion` if it passes the recipe's gate and beats the present champion on the same test rows
    by more than noise. If not, it becomes the `challenger`, and the reason is printed.

    Skips the build if nothing changed since the last one: SQL, variables, the rows of sources.
    Refuses, before dbt builds anything, to change a feature that a served version uses.
    """
    from runner.commands.training.training import train as train_recipe
    from runner.commands.training.training_report import show_training

    trained = train_recipe(load_settings(target), recipe, accepted, no_build=no_build)
    show_training(trained, recipe, as_json=as_json)
