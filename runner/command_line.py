"""What all commands share: how they end, and the arguments that several of them take."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from runner import console
from runner.commands.project import completion
from runner.failures import explain

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter

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
    Path,
    typer.Argument(
        help="The recipe, such as recipes/rf.yaml.",
        show_default=False,
        autocompletion=completion.recipes,
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        help="A recipe, or the name of a registered model.",
        show_default=False,
        autocompletion=completion.models,
    ),
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A recipe or a registered model: its champion. Or NAME@ALIAS, NAME/VERSION.",
        show_default=False,
        autocompletion=completion.versions,
    ),
]
Trained = Annotated[
    str,
    typer.Argument(
        help="NAME@ALIAS, NAME/VERSION or a run's id.",
        show_default=False,
        autocompletion=completion.trained,
    ),
]
Accepted = Annotated[
    str,
    typer.Option(
        "--accept-changed-features",
        metavar="REASON",
        help="Change features that served versions use, and retire those versions.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class CommandGroup(TyperGroup):
    """Commands whose help names no types of flags and arguments: `--json`, not `--json <bool>`."""

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return a command of the group."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _hide_types(command.get_params(ctx))
        return command

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return the group's own options."""
        params = super().get_params(ctx)
        _hide_types(params)
        return params


class Commands(CommandGroup):
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


def _hide_types(params: Sequence[Parameter]) -> None:
    for param in params:
        if isinstance(param, TyperArgument) or (isinstance(param, TyperOption) and param.is_flag):
            param.display_type_rich = _no_type  # type: ignore[method-assign]


def _no_type(ctx: Context) -> str:  # noqa: ARG001  (typer's signature)
    return ""


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
