"""What all commands share: how they end, and the arguments that several of them take."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from runner import console
from runner.failures import explain

if TYPE_CHECKING:
    from typer._click import Context

Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="local|cloud",
        help="dbt target: where everything runs. Default: APP_ENV, else local.",
        show_default=False,
    ),
]
Recipe = Annotated[
    Path, typer.Argument(help="The recipe, such as recipes/rf.yaml.", show_default=False)
]
Model = Annotated[
    str, typer.Argument(help="A recipe, or the name of a registered model.", show_default=False)
]
Trained = Annotated[
    str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or a run's id.", show_default=False)
]
Accepted = Annotated[
    str,
    typer.Option(
        "--accept-changed-features",
        metavar="REASON",
        help="Change features that served versions take, and retire those versions.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Commands(TyperGroup):
    """Turn expected failures into `error:` and `hint:` lines, and Ctrl-C into exit code 130."""

    def invoke(self, ctx: Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console.note("interrupted")
            raise typer.Exit(130) from None
        except Exception as err:  # every failure passes here; the unknown go on with a traceback
            expected = explain(err)
            if expected is None:
                raise
            console.failure(expected)
            raise typer.Exit(1) from err


def run_app(app: typer.Typer) -> None:
    """Run the command that the process was started with, and end the process."""
    try:
        app()
    except SystemExit as err:
        if err.code and threading.active_count() > 1:
            # A thread still imports what is not needed any more. Python's own end would cut it off
            # anywhere and may crash over what it then says, instead of the exit code.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(err.code if isinstance(err.code, int) else 1)
        raise
