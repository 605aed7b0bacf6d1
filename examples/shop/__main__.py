"""`python -m examples.shop` fills the schema `raw_data` with a shop's life."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import psycopg
import typer
from psycopg.conninfo import make_conninfo

from examples.shop.load import SCHEMA, Parameters, is_loaded, write
from examples.shop.simulation import simulate
from examples.shop.tables import raw_tables
from runner.console import failure, note, result, step
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
) -> None:
    """Fill the schema raw_data with the life of a demo shop.

    Writes users, categories, events, orders and recommendations to PostgreSQL.

    The database is that of PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.

    Their defaults are in profiles/local.env. All rows come in one transaction.

    The same options give the same rows; when these are there already, nothing is done.
    """
    last_day = end or datetime.now(UTC)
    midnight = last_day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    parameters = Parameters(users, days, seed, midnight)
    settings = load_settings("local")
    with _connect(settings) as connection:
        if not force and is_loaded(connection, parameters):
            result(f"{SCHEMA}: {users} users, {days} days up to {midnight:%Y-%m-%d} already there")
            return
        _replace_raw_data(connection, parameters, settings)
    note("next: dbt build --target local")


def _replace_raw_data(
    connection: psycopg.Connection, parameters: Parameters, settings: Settings
) -> None:
    with step(f"simulate {parameters.users} users over {parameters.days} days"):
        shop = simulate(parameters.users, parameters.days, parameters.seed)
        tables = raw_tables(shop, parameters.end)
    with step(f"write {SCHEMA}"):
        prefix = settings.env.get("DBT_SCHEMA_PREFIX", "")
        write(connection, tables, parameters, mart_schema=f"{prefix}feature_mart")
    for name, table in tables.items():
        result(f"{SCHEMA}.{name}: {table.num_rows} rows")


def _connect(settings: Settings) -> psycopg.Connection:
    postgres = settings.postgres
    try:
        conninfo = make_conninfo("", **postgres.conninfo, connect_timeout=10)
        return psycopg.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as err:
        raise RunnerError(
            f"PostgreSQL at {postgres.host}:{postgres.port}: {err}",
            hint="run `runner up`, or set PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE",
        ) from err


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
