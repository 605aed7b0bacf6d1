"""The `runner` command: one function per command, each a few lines that call one module.

Nothing heavy is imported here: `runner --help` must not wait for feast, mlflow or scikit-learn.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from runner import __version__, console
from runner.command_line import (
    Accepted,
    AsJson,
    CommandGroup,
    Commands,
    Model,
    Recipe,
    Target,
    Trained,
    Version,
    run_app,
)
from runner.commands import completion
from runner.settings import load_settings, read_settings

app = typer.Typer(
    name="runner",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # locals hold passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LineageFormat(StrEnum):
    """The formats of `runner lineage`."""

    text = "text"
    mermaid = "mermaid"


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"runner {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From a recipe to a prediction, with SQL at the centre.

    A usual day: `runner up`, `runner train recipes/rf.yaml`, `runner materialize`, `runner serve`.
    """


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A new or empty folder; the project is named after it."),
    ],
) -> None:
    """Write a new project that trains and serves at once, on sample data.

    Prints the next commands; its README.md explains them. If another program listens at the usual
    port of PostgreSQL or Redis, the project gets a free one. Refuses a folder that is not empty.
    """
    from runner.commands.new_project import write_project
    from runner.commands.new_project_report import show_project

    show_project(write_project(folder), folder)


@app.command()
def up(as_json: AsJson = False, target: Target = None) -> None:
    """Start PostgreSQL and Redis, unless they already answer at the configured addresses.

    Starts real servers from PyPI wheels on loopback, with their data in `data/embedded/`. If your
    own servers, or those of `docker compose -f docker-compose.local.yml up -d`, answer, uses them.
    """
    from runner.commands.server_report import show_servers
    from runner.servers import local_servers

    show_servers(local_servers.up(load_settings(target)), as_json=as_json)


@app.command()
def down(as_json: AsJson = False, target: Target = None) -> None:
    """Stop the servers that `runner up` started; their data stays."""
    from runner.commands.server_report import show_servers
    from runner.servers import local_servers

    show_servers(local_servers.down(load_settings(target)), as_json=as_json)


@app.command()
def status(as_json: AsJson = False, target: Target = None) -> None:
    """Show whether PostgreSQL and Redis answer, where, and who started them.

    Exits with 1 unless both answer, so that a health check can use it. Notes say what of the
    serving log and of events waits for `runner collect`, how old the features are that
    `runner refresh` keeps, and if the online store lacks most features of a champion.
    """
    from runner.commands.checks.log_backlog import waiting_at_hand, waiting_events
    from runner.commands.checks.online_features import HINT, problems_at_hand
    from runner.commands.checks.refresh_lag import refresh_at_hand
    from runner.commands.server_report import show_servers
    from runner.servers import local_servers

    settings = load_settings(target)
    states = local_servers.status(settings)
    show_servers(states, as_json=as_json)
    if any(server.state != "running" for server in states):
        raise typer.Exit(1)
    if waiting := waiting_at_hand(settings):
        console.note(f"serving log: {waiting}")
    if waiting := waiting_at_hand(settings, waiting_events):
        console.note(f"events: {waiting}")
    if refreshed := refresh_at_hand(settings):
        console.note(f"refresh: {refreshed}")
    for problem in problems_at_hand(settings):
        console.note(f"{problem}\nhint: {HINT}")


@app.command()
def doctor(as_json: AsJson = False, target: Target = None) -> None:
    """Check every connection, permission, version, index and setting that the target needs.

    Prints a line for each check, with a hint if it fails, and changes nothing. Exits with 1 if any
    check fails.
    """
    from runner.commands.doctor import diagnose
    from runner.commands.doctor_report import show_findings

    findings = diagnose(read_settings(target))
    show_findings(findings, as_json=as_json)
    if not all(found.is_ok for found in findings):
        raise typer.Exit(1)


@app.command()
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
    from runner.commands.checking import check as check_recipes
    from runner.commands.checking_report import show_problems

    checked = check_recipes(load_settings(target), recipes or [])
    show_problems(checked, as_json=as_json)
    if any(checked.values()):
        raise typer.Exit(1)


@app.command()
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
    from runner.commands.new_recipe import write_recipe

    path = write_recipe(load_settings(target), name, spine, label)
    console.result(f"{path}: written")
    console.note(f"next: read it, then runner check {path} and runner train {path}")


@app.command("new-version")
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
    from runner.commands.new_version import write_version

    written = write_version(load_settings(target), mart)
    console.result(f"{written.sql}: written; {written.yaml}: version declared")
    console.note(f"next: change {written.sql}, and write {written.reference}:… in a recipe")


@app.command()
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

    Leaves the build out if nothing changed since the last one: SQL, variables, the rows of sources.
    Refuses, before dbt builds anything, to change a feature that a served version takes.
    """
    from runner.commands.training import train as train_recipe
    from runner.commands.training_report import show_training

    trained = train_recipe(load_settings(target), recipe, accepted, no_build=no_build)
    show_training(trained, recipe, as_json=as_json)


@app.command()
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
    from runner.commands.plan import plan as plan_recipe
    from runner.commands.plan import require_affordable, require_price
    from runner.commands.plan_report import show_plan

    settings = load_settings(target)
    if max_cost is not None:
        require_price(settings)
    planned = plan_recipe(settings, recipe)
    show_plan(planned, as_json=as_json)
    require_affordable(planned, max_cost)
    if planned.hint:
        console.note(f"hint: {planned.hint}")


@app.command()
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
    from runner.commands.cost import cost as cost_of_month
    from runner.commands.cost import require_within
    from runner.commands.cost_report import show_cost

    found = cost_of_month(load_settings(target), stack, predictions)
    show_cost(found, as_json=as_json)
    if max_cost is not None:
        require_within(found, max_cost)


@app.command()
def promote(
    model: Model,
    version: Annotated[
        str | None, typer.Argument(help="Its version. Default: the challenger.", show_default=False)
    ] = None,
    target: Target = None,
) -> None:
    """Make a version the champion, even if it failed its gate.

    Its serving bundle must be intact. A running `runner serve` switches to it. `runner rollback`
    undoes it.
    """
    from runner.commands.model_argument import registered_name
    from runner.commands.promotion import change_of_champion
    from runner.commands.promotion import promote as promote_version

    name = registered_name(model)
    console.result(change_of_champion(name, *promote_version(load_settings(target), name, version)))


@app.command()
def rollback(model: Model, target: Target = None) -> None:
    """Make the previous champion the champion again.

    A running `runner serve` switches to it. A later rollback never returns to the version that was
    rolled back.
    """
    from runner.commands.model_argument import registered_name
    from runner.commands.promotion import change_of_champion
    from runner.commands.promotion import rollback as roll_back

    name = registered_name(model)
    console.result(change_of_champion(name, *roll_back(load_settings(target), name)))


@app.command()
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
    from runner.commands.model_argument import registered_name
    from runner.commands.registered import registered_versions
    from runner.commands.registered_report import show_versions

    name = None if model is None else registered_name(model)
    show_versions(registered_versions(load_settings(target), name), as_json=as_json)


@app.command()
def runs(
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many to list.")
    ] = 20,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """List the latest training runs: status, recipe, test scores, and when they started."""
    from runner.commands.registered import latest_runs
    from runner.commands.registered_report import show_runs

    show_runs(latest_runs(load_settings(target), limit), as_json=as_json)


@app.command()
def compare(
    a: Trained,
    b: Trained,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page with scores, differences and plots side by side, too.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Show two trained models side by side: their metrics, and all that differs.

    Compares features, data ranges, parameters and the recipe's other keys. `≠` marks a difference.
    """
    from runner.commands.comparison_page import write_comparison
    from runner.commands.comparison_report import show_comparison
    from runner.commands.model_comparison import compare as compare_models

    settings = load_settings(target)
    rows = compare_models(settings, a, b)
    if html:
        write_comparison(settings, rows, (a, b), html)
    show_comparison(rows, a, b, as_json=as_json)


@app.command()
def reproduce(run: Trained, as_json: AsJson = False, target: Target = None) -> None:
    """Repeat the training of a run, and show exactly what differs.

    Joins the rows again and compares them with the recorded rows. Fits the recorded recipe on the
    recorded rows and compares every score to the last digit. Registers nothing. Exits with 1
    unless rows and scores are the same.
    """
    from runner.commands.reproduction import reproduce as reproduce_run
    from runner.commands.reproduction_report import show_reproduction

    found = reproduce_run(load_settings(target), run)
    show_reproduction(found, as_json=as_json)
    if not found.reproduced:
        raise typer.Exit(1)


@app.command()
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
    from runner.commands.online_report import show_materialized
    from runner.commands.online_values import materialize as copy_marts
    from runner.errors import CombinedError

    settings = load_settings(target)
    reports, errors = copy_marts(settings, chosen or [], full=full, accepted=accepted)
    show_materialized(reports, as_json=as_json)
    if errors:
        raise CombinedError(errors, hint=errors[0].hint)


@app.command()
def refresh(
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipes whose feature marts are refreshed. Default: what served models read.",
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
    """Bring new rows into the online features: collect, dbt build, materialize. A line a round.

    Builds with dbt only what the new rows of sources touch, and copies only what changed. Rounds
    never overlap, in any process. A failed round is one error line, and the next one goes on;
    Ctrl-C lets a round end.
    """
    from runner.commands.refresh_loop import refresh as refresh_features
    from runner.commands.refresh_report import show_round

    refresh_features(load_settings(target), recipes or [], every, show_round)


@app.command()
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
    from runner.commands.online_report import show_audit
    from runner.commands.online_values import audit as audit_recipe
    from runner.errors import CombinedError

    found, changed = audit_recipe(load_settings(target), recipe, entities)
    show_audit(found, as_json=as_json)
    if changed:
        raise CombinedError(changed, hint=changed[0].hint)
    if any(feature.has_skew for feature in found):
        raise typer.Exit(1)


@app.command()
def predict(
    model: Version,
    source: Annotated[
        str,
        typer.Argument(
            help="Entity keys to score: a Parquet or CSV file, or the name of a spine.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where to write: a .parquet or .csv file."),
    ] = Path("predictions.parquet"),
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="SCHEMA.TABLE",
            help="Write to a table of the warehouse instead.",
            show_default=False,
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="Zone of times without one, such as Europe/Berlin. Default: UTC.",
        ),
    ] = None,
    target: Target = None,
) -> None:
    """Score a file or a spine with a model version; join its features point-in-time.

    A file needs the entity key columns. With a column `event_timestamp` (UTC), features are as of
    that time; without it, as of now. Other columns are kept, but must not have the name of a column
    that is written (`prediction`, `probability_…`). A CSV file for the shop has the header
    `user_id,category_id,event_timestamp` and lines such as `17,3,2026-01-31T12:00:00Z`.

    With `--to`, replaces what the same version wrote into the table on the same day (UTC), all or
    nothing; the table has a partition per day, `predicted_on`.
    """
    from runner.commands.model_argument import version_uri
    from runner.commands.prediction import predict as predict_rows
    from runner.commands.prediction import show_predictions
    from runner.commands.prediction_output import OutputFile, OutputTable

    where = OutputTable(to) if to else OutputFile(output)
    written = predict_rows(load_settings(target), version_uri(model), source, where, timezone)
    show_predictions(written, where)


@app.command()
def serve(
    model: Model,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Any but loopback requires API keys.",
            show_default="SERVING_HOST, else 127.0.0.1",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="TCP port.", min=0, max=65535, show_default="SERVING_PORT, else 8000"),
    ] = None,
    target: Target = None,
) -> None:
    """Answer HTTP predictions with the champion and the online features in Redis.

    `POST /predict` takes entity keys; `/docs` describes it. Switches to a new champion while it
    runs.
    """
    from runner.commands.model_argument import registered_name
    from runner.commands.serving_launch import serve as serve_model

    serve_model(load_settings(target), registered_name(model), host, port)


@app.command("smoke-test")
def smoke_test(
    model: Model,
    url: Annotated[
        str, typer.Option(envvar="API_URL", help="The API's address.")
    ] = "http://127.0.0.1:8000",
    target: Target = None,
) -> None:
    """Check that a running API is ready and answers one entity as the batch does.

    Takes an entity from the feature marts, asks the API for its prediction, and compares that with
    the champion's prediction from the point-in-time join. Exits with 1 if they differ, or if the
    API serves another version than the champion. Sends the first key in SERVING_API_KEYS and, to
    Cloud Run, an identity token.
    """
    from runner.commands.model_argument import registered_name
    from runner.commands.smoke_test import smoke_test as test_api
    from runner.commands.smoke_test_report import show_smoke_test

    show_smoke_test(test_api(load_settings(target), registered_name(model), url), url)


@app.command()
def release(
    rollback: Annotated[
        bool,
        typer.Option("--rollback", help="Return to the revisions before the last release."),
    ] = False,
    watch: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long the new revisions get 10 %, such as 10m."),
    ] = "5m",
    stack: Annotated[
        str, typer.Option(help="The stack in `deploy/` whose APIs are released.")
    ] = "prod",
    target: Target = None,
) -> None:
    """Deploy new revisions of the APIs on Google Cloud without a gap, and return if they fail.

    The new revisions start without requests, pass `runner smoke-test`, get 10 % of the requests,
    pass it again without a server error, and then get all. If one fails, the revisions that
    answered before get every request again, and the exit code is 1. Each step is a `pulumi up`,
    with the shares in `deploy/Pulumi.<stack>.yaml`: commit that file afterwards.
    """
    from runner.commands.release import release as release_apis
    from runner.commands.release import roll_back
    from runner.commands.release_report import show_released
    from runner.commands.released_stack import ReleasedStack

    deployed = ReleasedStack(read_settings(target).root, stack)
    show_released(roll_back(deployed) if rollback else release_apis(deployed, watch))


@app.command()
def collect(
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="DURATION",
            help="Delete the rows of days before, such as 90d.",
            show_default="every row is kept",
        ),
    ] = None,
    target: Target = None,
) -> None:
    """Move the serving log and accepted events from Redis to the warehouse.

    The serving log, every answered row, goes to the table `predictions` in the schema `raw_data`
    (cloud: the dataset `raw_events`), with a partition per day. Events go to the raw tables of
    their dbt sources. Each row is there once, however often this is interrupted and repeated. Run
    it regularly: the log in Redis is bounded, and its oldest rows go first; events wait until they
    are collected.
    """
    from runner.commands.collection import collect as collect_log
    from runner.commands.collection_report import show_collected
    from runner.errors import CombinedError

    done = collect_log(load_settings(target), keep)
    show_collected(done)
    if done.errors:
        raise CombinedError(done.errors, hint=done.errors[0].hint)


@app.command()
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
    from runner.commands.ingestion import ingest as ingest_events
    from runner.commands.ingestion_report import show_ingested

    done = ingest_events(load_settings(target), table, source)
    show_ingested(done, as_json=as_json)
    if done.rejected:
        raise typer.Exit(1)


@app.command()
def monitor(
    recipe: Recipe,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="When the window begins: 7d, or 2026-03-01 (UTC).",
            show_default="when the champion was promoted",
        ),
    ] = None,
    as_json: AsJson = False,
    target: Target = None,
) -> None:
    """Show how what the champion is asked and answers differs from what it was trained on.

    Reads the collected serving log, by day: how far each feature and the prediction have drifted
    from the champion's training rows, which features were missing, how good the predictions were
    by the labels that came back, and which values differ from the point-in-time join. Writes the
    figures to the warehouse's schema `monitoring`, and a report to an MLflow run. Exits with 1 if a
    limit of the recipe's key `monitor` is broken.
    """
    from runner.commands.monitoring import keep, require_within_limits
    from runner.commands.monitoring import monitor as monitor_champion
    from runner.commands.monitoring_report import show_monitoring

    settings = load_settings(target)
    found = monitor_champion(settings, recipe, since)
    show_monitoring(found, as_json=as_json)
    console.note(f"report.html: `runner ui {keep(settings, found)}`")
    require_within_limits(found)


@app.command()
def push(
    view: Annotated[
        str,
        typer.Argument(
            help="A feature view whose rows a dbt source has, such as user_session.",
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

    To Redis at once, unless a newer value is there; and to the raw table of the dbt source that has
    the rows pushed to the view, for its mart. Rows that are wrong are listed; exits with 1 if there
    are any.
    """
    from runner.commands.ingestion_report import show_pushed
    from runner.commands.pushing import push as push_rows

    done = push_rows(load_settings(target), view, source)
    show_pushed(done, as_json=as_json)
    if done.rejected:
        raise typer.Exit(1)


@app.command()
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
    from runner.commands.collection import forget as forget_entity

    table, deleted = forget_entity(load_settings(target), entity)
    console.result(f"{table}: {deleted:,} rows of {entity} deleted")


@app.command()
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
    column that only filters or joins is no origin. dbt compiles the project if it changed since the
    last time.
    """
    from runner.commands.lineage import ask
    from runner.commands.lineage_report import show_lineage

    show_lineage(ask(load_settings(target), what), form.value, as_json=as_json)


@app.command()
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
    from runner.commands.docs import serve_docs, write_docs

    settings = load_settings(target)
    serve_docs(settings, port) if serve else write_docs(settings)


@app.command()
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
    from runner.commands.tracking_ui import show_runs

    show_runs(load_settings(target), run, port)


@app.command()
def env(target: Target = None) -> None:
    """Print the project's variables for a shell: `eval "$(runner env)"`.

    Then bare `mlflow`, `dbt` and `feast` use the project's servers, from any folder. Omits what is
    already in the environment; the environment overrides the file, so open a new shell after you
    change `profiles/`.
    """
    from runner.commands.shell_environment import exports

    for line in exports(load_settings(target)):
        console.result(line)


@app.command("help")
def help_(
    topic: Annotated[str | None, typer.Argument(help="Such as recipe.", show_default=False)] = None,
) -> None:
    """Show a page of the documentation, or list them."""
    from runner.commands.pages import page, topics

    if topic is None:
        console.result_table("", ["topic", "page"], [[*each] for each in topics().items()])
    else:
        console.result_markdown(page(topic))


online = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Look into the online store.")
app.add_typer(online, name="online")


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
    from runner.commands.online_report import show_answer
    from runner.commands.online_values import look_up

    show_answer(look_up(load_settings(target), view, entity or []), as_json=as_json)


def main() -> None:
    """Run the command line."""
    run_app(app)
