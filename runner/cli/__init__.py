"""The `runner` command: one function per command, each a few lines that call one module.

Nothing heavy is imported here: `runner --help` must not wait for feast, mlflow or scikit-learn.
"""

from __future__ import annotations

from typing import Annotated

import typer

from runner import __version__, console
from runner.cli import (
    model_commands,
    online_commands,
    prediction_commands,
    project_commands,
    reading_commands,
    served_commands,
    training_commands,
)
from runner.command_line import Commands, run_app
from runner.unchecked_feast import leave_feast_unchecked

app = typer.Typer(
    name="runner",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # locals hold passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"runner {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001  (its callback ends the command)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress: only results and problems.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show all that dbt says.")
    ] = False,
) -> None:
    """From a recipe to a prediction, with SQL at the centre.

    A usual day: `runner up`, `runner train recipes/rf.yaml`, `runner materialize`, `runner serve`.
    """
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other")
    console.set_verbosity(quiet=quiet, verbose=verbose)


for commands in (
    project_commands,
    training_commands,
    model_commands,
    online_commands,
    prediction_commands,
    served_commands,
    reading_commands,
):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command line."""
    leave_feast_unchecked()
    run_app(app)
