"""`python -m examples.shop` fills the raw tables of either target with a shop's life."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import typer

from examples.shop.load import Parameters
from examples.shop.simulation import simulate
from examples.shop.tables import raw_tables
from runner.console import failure, result, step
from runner.errors import RunnerError
from runner.settings import Settings, load_settings


def generate(
    users: Annotated[int, typer.Option(min=1, help="How many users the shop has.")] = 2000,
    days: Annotated[int, typer.Option(min=30, help="How many days of history.")] = 180,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another shop.")] = 7,
    end: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="The day the history ends at, at midnight UTC. Default: today, so that online "
            "features are fresh. The rows are the same for every end, only shifted.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the rows even if they are there already.")
    ] = False,
    target: Annotated[
        str | None, typer.Option("--target", help="`local` or `cloud`. Default: APP_ENV, or local.")
    ] = None,
) -> None:
    """Fill the raw tables with the life of a demo shop.

    Writes users, categories, events, orders and recommendations: to the schema raw_data of
    PostgreSQL in one transaction, or to BigQuery's dataset raw_events by load jobs.

    The database is that of PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE, the project that of
    GOOGLE_CLOUD_PROJECT. Their defaults are in profiles/.

    The same options give the same rows; when these are there already, nothing is done. Others
    replace what is there.
    """
    last_day = end or datetime.now(UTC)
    midnight = last_day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    parameters = Parameters(users, days, seed, midnight)
    settings = load_settings(target)
    # Only one of them is imported: each takes its client library along.
    loader = import_module(
        "examples.shop.load_bigquery" if settings.target == "cloud" else "examples.shop.load"
    )
    with loader.connect(settings) as connection:
        if not force and loader.is_loaded(connection, parameters):
            there = f"{users} users, {days} days up to {midnight:%Y-%m-%d} already there"
            result(f"{loader.SCHEMA}: {there}")
            return
        _replace_raw_data(loader, connection, parameters, settings)


def _replace_raw_data(
    loader: ModuleType, connection: Any, parameters: Parameters, settings: Settings
) -> None:
    with step(f"simulate {parameters.users} users over {parameters.days} days"):
        shop = simulate(parameters.users, parameters.days, parameters.seed)
        tables = raw_tables(shop, parameters.end)
    with step(f"write {loader.SCHEMA}"):
        prefix = settings.env.get("DBT_SCHEMA_PREFIX", "")
        loader.write(connection, tables, parameters, mart_schema=f"{prefix}feature_mart")
    for name, table in tables.items():
        result(f"{loader.SCHEMA}.{name}: {table.num_rows} rows")


def main() -> None:
    """Run the command line; an expected failure is one `error:` and one `hint:` line."""
    app = typer.Typer(add_completion=False)
    app.command()(generate)
    try:
        app()
    except RunnerError as err:
        failure(err)
        sys.exit(1)


if __name__ == "__main__":
    main()
