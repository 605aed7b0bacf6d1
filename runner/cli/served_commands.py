"""Commands about what was served."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from runner import console
from runner.command_line import AsJson, Recipe, Target
from runner.errors import RunnerError
from runner.settings import load_settings

app = typer.Typer()
command = partial(app.command, rich_help_panel="After the answer")


@command()
def collect(
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="DURATION",
            help="How long to keep rows, such as 90d; older days are deleted.",
            show_default="every row is kept",
        ),
    ] = None,
    target: Target = None,
) -> None:
    """Move the serving log and accepted events from Redis to the warehouse.

    The serving log, every answered row, goes to the table `predictions` in the schema `raw_data`
    (cloud: the dataset `raw_events`), with a partition per day. Events go to the raw tables of
    their dbt sources. Each row is there once, however often the command is interrupted and
    repeated. Run it regularly: the log in Redis is bounded and loses its oldest rows; events wait
    until they are collected.
    """
    from runner.commands.served.collection import collect as collect_log
    from runner.commands.served.collection_report import show_collected
    from runner.errors import CombinedError

    done = collect_log(load_settings(target), keep)
    show_collected(done)
    if done.errors:
        raise CombinedError(done.errors, hint=done.errors[0].hint)


@command()
def monitor(
    recipe: Recipe,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="When the window begins: 7d, or 2026-03-01 (UTC).",
            show_default="the day on which the champion was promoted",
        ),
    ] = None,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="If a limit is broken, train; the gate decides as always."),
    ] = False,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Compare what the champion is asked and answers with its training rows, and score its answers.

    Reads the collected serving log, by day: how far each feature and the prediction have drifted
    from the champion's training rows, which features were missing, how good the predictions were
    once their labels were known, and which values differ from the point-in-time join. Writes the
    figures to the warehouse's schema `monitoring`, and a report to an MLflow run. Exits with 1 if a
    limit of the recipe's key `monitor` is broken; with `--retrain`, trains instead.
    """
    if retrain and as_json:
        raise typer.BadParameter("--retrain and --json exclude each other")
    from runner.commands.served.monitoring import keep, require_within_limits
    from runner.commands.served.monitoring import monitor as monitor_champion
    from runner.commands.served.monitoring_report import show_monitoring

    settings = load_settings(target)
    found = monitor_champion(settings, recipe, since)
    show_monitoring(found, as_json=as_json)
    console.note(f"report.html: `runner ui {keep(settings, found)}`")
    try:
        require_within_limits(found)
    except RunnerError as err:
        if not retrain:
            raise
        console.warn(err.message)
        from runner.commands.training.training import train
        from runner.commands.training.training_report import show_training

        show_training(train(settings, recipe), recipe, as_json=False)


@command()
def forget(
    entity: Annotated[
        str,
        typer.Argument(
            metavar="KEY=VALUE", help="An entity key, such as user_id=123.", show_default=False
        ),
    ],
    target: Target = None,
) -> None:
    """Delete an entity's rows from the serving log, collected or not.

    Collects first, then deletes from the table `predictions`. Feature marts and the online store
    stay: delete the entity from its source.
    """
    from runner.commands.served.collection import forget as forget_entity

    table, deleted = forget_entity(load_settings(target), entity)
    console.result(f"{table}: {deleted:,} rows of {entity} deleted")
