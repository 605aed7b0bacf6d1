"""Commands that write features to the online store, and look into it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runner.command_line import Accepted, AsJson, CommandGroup, Recipe, Target
from runner.commands.project import completion
from runner.settings import load_settings

app = typer.Typer()
command = partial(app.command, rich_help_panel="Online features")


@command()
def materialize(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIEW|RECIPE",
            help="Feature views, or recipes that use them. Default: all views.",
            autocompletion=completion.views_and_recipes,
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write and check every entity, changed or not.")
    ] = False,
    accepted: Accepted = "",
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Copy the newest feature values from the feature marts to Redis.

    Writes what changed since the last run, or every entity if dbt rebuilt the table (mode `full`).
    Removes entities that are no longer in the mart, and those whose newest row is older than the
    view's ttl. Without arguments, also removes views that are no longer in dbt. Safe to repeat, to
    interrupt and to run twice at once. Feast and `feast serve` read the result.

    Refuses a view whose features are no longer what a served version was trained on.
    """
    from runner.commands.online.online_report import show_materialized
    from runner.commands.online.online_values import materialize as copy_marts
    from runner.errors import CombinedError

    settings = load_settings(target)
    reports, errors = copy_marts(settings, chosen or [], full=full, accepted=accepted)
    show_materialized(reports, as_json=as_json)
    if errors:
        raise CombinedError(errors, hint=errors[0].hint)


@command()
def refresh(
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipes whose marts are refreshed. Default: what models with an alias read.",
            show_default=False,
            autocompletion=completion.recipes,
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="DURATION",
            help="Start a round this often, such as 30s, until Ctrl-C.",
            show_default="one round",
        ),
    ] = None,
    target: Target = None,
) -> None:
    """Bring new rows into the online features: collect, dbt build, materialize.

    Builds with dbt only what the new rows of sources touch, copies only what changed, and prints a
    line per round. Rounds never overlap, in any process. With `--every`, a round that fails prints
    an error line and the next one starts as usual; Ctrl-C lets the current round end.
    """
    from runner.commands.online.refresh_loop import refresh as refresh_features
    from runner.commands.online.refresh_report import show_round

    refresh_features(load_settings(target), recipes or [], every, show_round)


@command()
def audit(
    recipe: Recipe,
    entities: Annotated[
        int, typer.Option(min=1, help="Entities to sample per view, from each of the two stores.")
    ] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with examples.")] = False,
    target: Target = None,
) -> None:
    """Compare Redis with the point-in-time join: the same entities at the same instant.

    Counts per feature: *mismatch* (the values differ), *missing* (only the warehouse has one),
    *extra* (only Redis has one), *stale* (right when it was materialized). Exits with 1 if
    anything differs, or if a feature is no longer what the champion was trained on.
    """
    from runner.commands.online.online_report import show_audit
    from runner.commands.online.online_values import audit as audit_recipe
    from runner.errors import CombinedError

    found, changed = audit_recipe(load_settings(target), recipe, entities)
    show_audit(found, as_json=as_json)
    if changed:
        raise CombinedError(changed, hint=changed[0].hint)
    if any(feature.has_skew for feature in found):
        raise typer.Exit(1)


@command()
def ingest(
    table: Annotated[
        str,
        typer.Argument(
            help="A table of a dbt source that takes events, such as clicks.", show_default=False
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="An NDJSON, CSV or Parquet file; - reads NDJSON from stdin.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Write events into a raw table, each once, checked against the columns of its dbt source.

    Events that are wrong are left out and listed, with their row and the reason; exits with 1 if
    there are any. An event whose id is in the table already is not written again. In a file without
    the column of ids, an event's id is the digest of the file and its row.
    """
    from runner.commands.online.ingestion import ingest as ingest_events
    from runner.commands.online.ingestion_report import show_ingested

    done = ingest_events(load_settings(target), table, source)
    show_ingested(done, as_json=as_json)
    if done.rejected:
        raise typer.Exit(1)


@command()
def push(
    view: Annotated[
        str,
        typer.Argument(
            help="A feature view that takes pushed rows, such as user_session.",
            show_default=False,
            autocompletion=completion.views,
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="An NDJSON, CSV or Parquet file; - reads NDJSON from stdin.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Write feature values that were computed elsewhere, for predictions and for training.

    Writes them to Redis at once, unless a newer value is there, and to the raw table that the mart
    of the view reads: the table whose dbt source has `pushes: VIEW`. Rows that are wrong are left
    out and listed, with the reason; exits with 1 if there are any.
    """
    from runner.commands.online.ingestion_report import show_pushed
    from runner.commands.online.pushing import push as push_rows

    done = push_rows(load_settings(target), view, source)
    show_pushed(done, as_json=as_json)
    if done.rejected:
        raise typer.Exit(1)


online = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Look into the online store.")
app.add_typer(online, name="online", rich_help_panel="Online features")


@online.command("get")
def online_get(
    view: Annotated[
        str,
        typer.Argument(
            help="The feature view, such as user_activity.",
            show_default=False,
            autocompletion=completion.views,
        ),
    ],
    entity: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Its join keys, such as user_id=123.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Show what Redis holds for one entity: values, event time, age, time left and status.

    A status is *present*, *null*, *missing* (not stored) or *expired* (older than the view's ttl:
    shown here, but not used for predictions).
    """
    from runner.commands.online.online_report import show_answer
    from runner.commands.online.online_values import look_up

    show_answer(look_up(load_settings(target), view, entity or []), as_json=as_json)
