"""Commands about recorded runs and registered models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runner import console
from runner.command_line import AsJson, Model, Target, Trained
from runner.commands.project import completion
from runner.settings import load_settings

AcceptedFeatures = Annotated[
    str,
    typer.Option(
        "--accept-changed-features",
        metavar="REASON",
        help="Accept that the version's features have changed, and retire the version.",
        show_default=False,
    ),
]
app = typer.Typer()
command = partial(app.command, rich_help_panel="Trained models")


@command()
def models(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A recipe, or the name of a registered model. Default: all.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """List the registered versions: alias, recipe, test scores, and when they were trained."""
    from runner.commands.models.model_argument import registered_name
    from runner.commands.models.registered import registered_versions
    from runner.commands.models.registered_report import show_versions

    name = None if model is None else registered_name(model)
    show_versions(registered_versions(load_settings(target), name), as_json=as_json)


@command()
def runs(
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many to list.")
    ] = 20,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """List the latest training runs: status, recipe, test scores, and when they started."""
    from runner.commands.models.registered import latest_runs
    from runner.commands.models.registered_report import show_runs

    show_runs(latest_runs(load_settings(target), limit), as_json=as_json)


@command()
def ui(
    run: Annotated[
        str | None,
        typer.Argument(
            help="NAME@ALIAS, NAME/VERSION or a run's id. Default: all experiments.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="TCP port, on loopback.", min=1, max=65535)] = 5000,
    target: Target = None,
) -> None:
    """Open MLflow's page of a run: scores, plots, report, data, parameters.

    Prints the address, and opens it in a browser on a terminal. Serves it until Ctrl-C, unless
    MLFLOW_TRACKING_URI is already a server's.
    """
    from runner.commands.models.tracking_ui import show_runs

    show_runs(load_settings(target), run, port)


@command()
def compare(
    a: Trained,
    b: Trained,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page with scores, differences and plots side by side.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Show two trained models side by side: their metrics, and all that differs.

    Compares features, data ranges, parameters and the recipe's other keys. `≠` marks a difference.
    """
    from runner.commands.models.comparison_page import write_comparison
    from runner.commands.models.comparison_report import show_comparison
    from runner.commands.models.model_comparison import compare as compare_models

    settings = load_settings(target)
    rows = compare_models(settings, a, b)
    if html:
        write_comparison(settings, rows, (a, b), html)
    show_comparison(rows, a, b, as_json=as_json)


@command()
def reproduce(run: Trained, as_json: AsJson = False, target: Target = None) -> None:
    """Repeat the training of a run, and show exactly what differs.

    Joins the rows again and compares them with the recorded rows. Fits the recorded recipe on the
    recorded rows and compares every score to the last digit. Registers nothing. Exits with 1
    unless rows and scores are the same.
    """
    from runner.commands.models.reproduction import reproduce as reproduce_run
    from runner.commands.models.reproduction_report import show_reproduction

    found = reproduce_run(load_settings(target), run)
    show_reproduction(found, as_json=as_json)
    if not found.reproduced:
        raise typer.Exit(1)


@command()
def promote(
    model: Model,
    version: Annotated[
        str | None, typer.Argument(help="Its version. Default: the challenger.", show_default=False)
    ] = None,
    accepted: AcceptedFeatures = "",
    accepted_days: Annotated[
        str,
        typer.Option(
            "--accept-shadow-days",
            metavar="REASON",
            help="Promote it without the recipe's min_shadow_days as a shadow.",
            show_default=False,
        ),
    ] = "",
    target: Target = None,
) -> None:
    """Make a version the champion, even if it failed its gate.

    Its serving bundle must be intact, and Redis must have the features it was trained on. A running
    `runner serve` switches to it. `runner rollback` undoes it.
    """
    from runner.commands.models.model_argument import registered_name
    from runner.commands.models.promotion import change_of_champion
    from runner.commands.models.promotion import promote as promote_version

    name = registered_name(model)
    moved = promote_version(load_settings(target), name, version, accepted, accepted_days)
    console.result(change_of_champion(name, *moved))


@command()
def rollback(model: Model, accepted: AcceptedFeatures = "", target: Target = None) -> None:
    """Make the previous champion the champion again.

    Redis must have the features it was trained on. A running `runner serve` switches to it. A later
    rollback never returns to the version that was rolled back.
    """
    from runner.commands.models.model_argument import registered_name
    from runner.commands.models.promotion import change_of_champion
    from runner.commands.models.promotion import rollback as roll_back

    name = registered_name(model)
    console.result(change_of_champion(name, *roll_back(load_settings(target), name, accepted)))
