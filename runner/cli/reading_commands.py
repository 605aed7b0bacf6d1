"""Commands that show how columns, models and recipes depend on each other."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from runner.command_line import AsJson, Target
from runner.settings import load_settings

app = typer.Typer()
command = partial(app.command, rich_help_panel="Read")


class LineageFormat(StrEnum):
    """The formats of `runner lineage`."""

    text = "text"
    mermaid = "mermaid"


@command()
def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="MODEL.COLUMN of a dbt model, SCHEMA.TABLE.COLUMN of a raw table, or a recipe.",
            show_default=False,
        ),
    ],
    form: Annotated[
        LineageFormat, typer.Option("--format", help="Print text or a Mermaid graph.")
    ] = LineageFormat.text,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Show what a column is computed from, and what breaks if it changes.

    Follows values from raw columns through dbt models to recipes and registered model versions; a
    column that only filters or joins is not an origin. dbt compiles the project if it changed since
    the last time.
    """
    from runner.commands.reading.lineage import ask
    from runner.commands.reading.lineage_report import show_lineage

    show_lineage(ask(load_settings(target), what), form.value, as_json=as_json)


@command()
def docs(
    port: Annotated[int, typer.Option(help="TCP port, on loopback.", min=1, max=65535)] = 8080,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve them, or only write target/docs.")
    ] = True,
    target: Target = None,
) -> None:
    """Generate dbt's docs with the lineage from raw column to recipe and endpoint; serve them.

    Recipes and endpoints appear as dbt exposures. Every column of a dbt model lists the raw columns
    that it comes from.
    """
    from runner.commands.reading.docs import serve_docs, write_docs

    settings = load_settings(target)
    serve_docs(settings, port) if serve else write_docs(settings)
