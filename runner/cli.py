"""The `runner` command: one function per command, each a few lines that call one module.

Nothing heavy is imported here: `runner --help` must not wait for feast, mlflow or scikit-learn.
"""

from __future__ import annotations

import os
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from runner import __version__, console
from runner.failures import explain
from runner.settings import load_settings, read_settings

if TYPE_CHECKING:
    from typer._click import Context

    from runner.servers.local_servers import ServerStatus


class _Commands(TyperGroup):
    """Turn expected failures into `error:` and `hint:` lines, and Ctrl-C into exit code 130."""

    def invoke(self, ctx: Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console.note("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:  # every failure passes here; the unknown go on with a traceback
            told = explain(error)
            if told is None:
                raise
            console.failure(told)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="runner",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # locals hold passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


class LineageFormat(StrEnum):
    """How `runner lineage` writes."""

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
        typer.Argument(
            metavar="DIR", help="A folder that is new or empty; its name is the project's."
        ),
    ],
) -> None:
    """Write a new project that trains and serves at once, on sample data.

    Its README.md says the next commands. Never writes into a folder that holds anything.
    """
    from runner.commands.new_project import write_project

    name = write_project(folder)
    console.result(f"project {name} written to {folder.resolve()}")
    console.note("next: the commands in its README.md, from that folder")


@app.command()
def up(target: Target = None) -> None:
    """Start PostgreSQL and Redis, unless they already answer at the configured addresses.

    Real servers from PyPI wheels, on loopback, data under `data/embedded/`. If your own servers
    or those of `docker compose -f docker-compose.local.yml up -d` answer, they are used.
    """
    from runner.servers import local_servers

    _show_servers(local_servers.up(load_settings(target)))


@app.command()
def down(target: Target = None) -> None:
    """Stop the servers that `runner up` started; their data stays."""
    from runner.servers import local_servers

    _show_servers(local_servers.down(load_settings(target)))


@app.command()
def status(target: Target = None) -> None:
    """Show whether PostgreSQL and Redis answer, where, and who started them.

    Exits with 1 unless both do, so that health checks can ask it. A note says if the online store
    lacks most features of a champion.
    """
    from runner.commands.checks.online_features import HINT, problems_at_hand
    from runner.servers import local_servers

    settings = load_settings(target)
    states = local_servers.status(settings)
    _show_servers(states)
    if any(server.state != "running" for server in states):
        raise typer.Exit(1)
    for problem in problems_at_hand(settings):
        console.note(f"{problem}\nhint: {HINT}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    target: Target = None,
) -> None:
    """Check every connection, permission, version, index and setting that the target needs.

    One line each, with a hint for what fails; changes nothing. Exits with 1 if anything fails.
    """
    from dataclasses import asdict

    from runner.commands.doctor import diagnose

    findings = diagnose(read_settings(target))
    if as_json:
        console.result_json([asdict(finding) for finding in findings])
    else:
        for found in findings:
            hint = f"; hint: {found.hint}" if found.hint else ""
            state = "ok" if found.is_ok else "problem"
            console.result(f"{state:8}{found.check}: {found.told}{hint}")
    if not all(found.is_ok for found in findings):
        raise typer.Exit(1)


@app.command()
def check(
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECIPE", help="Recipes. Default: all in recipes/.", show_default=False
        ),
    ] = None,
    target: Target = None,
) -> None:
    """Check recipes without running them: keys, dbt models, features, arguments, scorers, gate.

    dbt reads the project (`dbt parse`), no server is asked. Every mistake is a line
    `file:line:column: key: what was expected`. Exits with 1 if there is any.
    """
    from runner.commands.checking import check as check_recipes

    checked = check_recipes(load_settings(target), recipes or [])
    for path, problems in checked.items():
        for problem in problems:
            console.result(f"{problem.message}\n  hint: {problem.hint}")
        if not problems:
            console.result(f"{path}: right")
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

    dbt reads the project (`dbt parse`), no server is asked. Never overwrites a file.
    """
    from runner.commands.new_recipe import write_recipe

    path = write_recipe(load_settings(target), name, spine, label)
    console.result(f"{path}: written")
    console.note(f"next: read it, then runner check {path} and runner train {path}")


@app.command()
def train(recipe: Recipe, target: Target = None) -> None:
    """Train the recipe's ML model and register it.

    Builds the spine and feature marts with dbt, joins features point-in-time through Feast, fits
    with scikit-learn, records everything in MLflow and registers a version. It becomes the
    `champion` if it passes the recipe's gate and beats the present champion on the same test rows
    by more than noise; otherwise it is the `challenger`, and the reason is told.
    """
    from runner.commands.training import train as train_recipe

    trained = train_recipe(load_settings(target), recipe)
    console.result_table(
        f"{trained.registered_model_name} version {trained.version}, run {trained.run_id}",
        ["scorer", "training rows", "test rows", "95 % of resamples"],
        [
            [name, f"{a:.4f}", f"{b:.4f}", "{:.4f} to {:.4f}".format(*trained.intervals[name])]
            for name, (a, b) in trained.scores.items()
        ],
    )
    if trained.decision_threshold is not None:
        console.result(f"decision threshold {trained.decision_threshold:.4g}")
    if trained.slices:
        console.result_table(
            f"Where {next(iter(trained.scores))} is lowest; every slice is in the run's slices.md",
            ["slice", "values", "not scored", "lowest", "test rows", "score", "95 % of resamples"],
            [each.cells for each in trained.slices],
        )
    if trained.refusals:
        console.warn(f"the challenger, not the champion: {'; '.join(trained.refusals)}")
        name = trained.registered_model_name
        if trained.champion:
            console.note(f"look at both: runner compare {name}@champion {name}@challenger")
        else:
            console.note(f"to serve it all the same: runner promote {recipe}")
    else:
        console.result("It is the champion now.")
        console.note(f"next: runner materialize {recipe}, then runner serve {recipe}")


@app.command()
def plan(
    recipe: Recipe,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            metavar="USD",
            min=0,
            help="Exit with 1 if all of it costs more, or cannot be known.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the SQL.")] = False,
    target: Target = None,
) -> None:
    """Show what training and materializing would run, and its price; runs and writes nothing.

    On BigQuery every query is dry-run: bytes and price per step. On PostgreSQL the planner's
    estimate of rows. Exits with 1 if BigQuery would refuse a query for its bytes.
    """
    from runner.commands.plan import plan as plan_recipe
    from runner.commands.plan import require_affordable, require_price
    from runner.commands.plan_report import plan_columns, plan_json, plan_rows

    settings = load_settings(target)
    if max_cost is not None:
        require_price(settings)
    planned = plan_recipe(settings, recipe)
    if as_json:
        console.result_json(plan_json(planned))
    else:
        console.result_table("", plan_columns(planned), plan_rows(planned))
    require_affordable(planned, max_cost)
    if planned.hint:
        console.note(f"hint: {planned.hint}")


@app.command()
def promote(
    model: Annotated[
        str, typer.Argument(help="A recipe, or the name of a registered model.", show_default=False)
    ],
    version: Annotated[
        str | None, typer.Argument(help="Its version. Default: the challenger.", show_default=False)
    ] = None,
    target: Target = None,
) -> None:
    """Make a version the champion, whatever its gate said.

    Its serving bundle must be intact. A running `runner serve` picks it up; `runner rollback`
    takes it back.
    """
    from runner.commands import promotion

    name = _model_name(model)
    champion, before = promotion.promote(load_settings(target), name, version)
    _show_champion(name, champion, before)


@app.command()
def rollback(
    model: Annotated[
        str, typer.Argument(help="A recipe, or the name of a registered model.", show_default=False)
    ],
    target: Target = None,
) -> None:
    """Make the champion before the present one the champion again.

    A running `runner serve` picks it up. The version that was rolled back is not returned to.
    """
    from runner.commands import promotion

    name = _model_name(model)
    champion, before = promotion.rollback(load_settings(target), name)
    _show_champion(name, champion, before)


@app.command()
def compare(
    a: Annotated[
        str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or a run's id.", show_default=False)
    ],
    b: Annotated[str, typer.Argument(help="Likewise.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    target: Target = None,
) -> None:
    """Show two trained models side by side: their metrics, and whatever else differs.

    That is features, data ranges, parameters and the recipe's other keys. Lines that differ are
    marked `≠`.
    """
    from dataclasses import asdict

    from runner.commands.model_comparison import compare as compare_models
    from runner.commands.model_comparison import table

    rows = compare_models(load_settings(target), a, b)
    if as_json:
        console.result_json([{**asdict(row), "differs": row.differs} for row in rows])
        return
    cells, same = table(rows)
    console.result_table("", ["", "", "", a, b], cells)
    if same:
        console.result(same)


@app.command()
def reproduce(
    run: Annotated[
        str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or a run's id.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    target: Target = None,
) -> None:
    """Train again what a run trained, and say exactly what comes out otherwise.

    The rows are joined anew and compared with the recorded ones; the recorded recipe is fitted
    on the recorded rows, and every score compared to the last digit. Registers nothing. Exits
    with 1 unless rows and scores are the same.
    """
    from dataclasses import asdict

    from runner.commands.reproduction import reproduce as reproduce_run

    found = reproduce_run(load_settings(target), run)
    if as_json:
        lines = [{**asdict(line), "same": line.same} for line in found.lines]
        console.result_json({**asdict(found), "lines": lines})
    else:
        console.result_table(
            f"run {found.run_id}: {'reproduced' if found.reproduced else 'NOT reproduced'}",
            ["what", "then", "now", "same"],
            [[line.what, *line.shown, "yes" if line.same else "no"] for line in found.lines],
        )
        for sentence in found.account:
            console.result(f"- {sentence}")
    if not found.reproduced:
        raise typer.Exit(1)


@app.command()
def materialize(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIEW|RECIPE",
            help="Feature views, or recipes whose views are meant. Default: all.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write and check every entity, not only what changed.")
    ] = False,
    target: Target = None,
) -> None:
    """Copy the newest feature values from the feature marts to Redis.

    Only what changed since the last run is written, and all of a table that dbt has made anew
    (`full` in the table below); entities that the mart no longer has, or
    whose newest row is older than the view's ttl, disappear. Safe to repeat, to interrupt and to
    run twice at a time. Feast and `feast serve` read the result.
    """
    from runner.feature_store.selection import require_none_left_out, select_marts
    from runner.online.materialize import materialize as copy_marts
    from runner.servers.local_servers import require_servers

    settings = load_settings(target)
    require_servers(settings)
    marts = select_marts(settings, chosen or [])
    with console.bar("materialize", None) as bar:
        reports = copy_marts(
            settings,
            marts,
            full=full,
            progress=lambda _view, rows: bar.advance(rows),
            note=console.note,
        )
    console.result_table(
        "",
        ["view", "mode", "entities", "written", "removed", "rows/s", "as of"],
        [
            [
                report.view,
                report.mode,
                f"{report.entities:,}",
                f"{report.written:,}",
                f"{report.removed:,}",
                f"{report.rows_per_second:,.0f}",
                f"{report.as_of:%Y-%m-%d %H:%M:%S} UTC",
            ]
            for report in reports
        ],
    )
    for report in reports:
        if report.kept_newer:
            console.warn(f"{report.view}: {report.kept_newer:,} values in Redis are newer; kept")
    if not chosen:
        require_none_left_out(settings)


@app.command()
def audit(
    recipe: Recipe,
    entities: Annotated[
        int, typer.Option(min=1, help="Entities to sample per view, from each of the two stores.")
    ] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with examples.")] = False,
    target: Target = None,
) -> None:
    """Compare Redis with the point-in-time join, on the same entities at the same instant.

    Per feature: *mismatch* another value, *missing* only offline has one, *extra* only Redis has
    one, *stale* it was right when it was materialized. Exits with 1 if anything differs.
    """
    from runner.commands.online_report import audit_columns, audit_json, audit_rows
    from runner.online.audit import audit as audit_recipe
    from runner.project.manifest import load_manifest
    from runner.recipes.recipe import load_recipe
    from runner.recipes.references import check_references
    from runner.servers.local_servers import require_servers

    settings = load_settings(target)
    loaded, manifest = load_recipe(recipe), load_manifest(settings.manifest_path)
    check_references(loaded, manifest)
    require_servers(settings)
    with console.step(f"audit {loaded.name}"):
        found = audit_recipe(settings, manifest, loaded, entities=entities)
    if as_json:
        console.result_json(audit_json(found))
    else:
        console.result_table("", audit_columns(), audit_rows(found))
    if any(feature.has_skew for feature in found):
        console.note("hint: `runner materialize` brings Redis up to date; see --json for examples")
        raise typer.Exit(1)


@app.command()
def predict(
    model: Annotated[
        str, typer.Argument(help="A recipe, or the name of a registered model.", show_default=False)
    ],
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
    target: Target = None,
) -> None:
    """Score a file or a spine with the champion, features joined point-in-time.

    A file needs the entity key columns, and may have `event_timestamp` (UTC): features are as
    they were knowable then. Without it they are as of now, as online. Other columns are kept; one
    named as a column that is written (`prediction`, `probability_…`) is refused. A CSV file for
    the shop: `user_id,category_id,event_timestamp`, and a line `17,3,2026-01-31T12:00:00Z` for
    each row.
    """
    from runner.commands.prediction import predict as predict_rows

    settings = load_settings(target)
    written = predict_rows(settings, _model_name(model), source, output)
    console.result(f"{written.rows:,} predictions of {written.model} in {output}")
    if written.bare_rows:
        console.warn(
            f"{written.bare_rows:,} of {written.rows:,} rows have no value in any feature at their "
            "time: unknown entities, or event_timestamps before there was data"
        )


@app.command()
def serve(
    model: Annotated[
        str, typer.Argument(help="A recipe, or the name of a registered model.", show_default=False)
    ],
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Beyond loopback API keys are required.",
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

    `POST /predict` takes entity keys; `/docs` describes it. Another champion is picked up while
    running.
    """
    from runner.commands.serving_launch import serve as serve_model

    serve_model(load_settings(target), _model_name(model), host, port)


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
        LineageFormat, typer.Option("--format", help="How the answer is written.")
    ] = LineageFormat.text,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    target: Target = None,
) -> None:
    """Show what a column is computed from, and what breaks if it changes.

    From raw columns through dbt models to recipes and registered model versions. dbt compiles the
    project for it. Lineage is of values: a column that only filters or joins is no origin.
    """
    from runner.commands import lineage_report
    from runner.commands.lineage import ask

    answer = ask(load_settings(target), what)
    if as_json:
        console.result_json(lineage_report.as_json(answer))
    elif form is LineageFormat.mermaid:
        console.result(lineage_report.as_mermaid(answer))
    else:
        console.result(lineage_report.as_text(answer))


@app.command()
def docs(
    port: Annotated[int, typer.Option(help="TCP port, on loopback.", min=1, max=65535)] = 8080,
    target: Target = None,
) -> None:
    """Generate dbt's docs with the lineage from raw column to recipe and endpoint; serve them.

    Recipes and endpoints are dbt exposures, made anew; every column of a dbt model tells the raw
    columns it comes from.
    """
    from runner.commands.docs import generate
    from runner.project import dbt

    settings = load_settings(target)
    with dbt.docs_server(settings, port) as server:
        generate(settings)
        console.result(f"dbt docs on http://127.0.0.1:{port} (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.note("stopped")


online = typer.Typer(no_args_is_help=True, help="Look into the online store.")
app.add_typer(online, name="online")


@online.command("get")
def online_get(
    view: Annotated[
        str, typer.Argument(help="The feature view, such as user_activity.", show_default=False)
    ],
    entity: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Its join keys, such as user_id=123.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    target: Target = None,
) -> None:
    """Show what Redis holds of one entity: values, event time, age, time left and status.

    A status is *present*, *null*, *missing* (not stored) or *expired* (older than the view's ttl:
    shown here, withheld from predictions).
    """
    from runner.commands.online_report import answer_json, answer_rows, answer_title
    from runner.feature_store.selection import select_marts
    from runner.online.reader import get_online, parse_entity
    from runner.servers.local_servers import require_servers

    settings = load_settings(target)
    mart = select_marts(settings, [view])[0]
    keys = parse_entity(mart, entity or [])
    require_servers(settings, ["Redis"])
    answer = get_online(settings, mart, keys)
    if as_json:
        console.result_json(answer_json(answer))
    else:
        console.result_table(
            answer_title(answer), ["feature", "value", "status"], answer_rows(answer)
        )


def _show_servers(states: list[ServerStatus]) -> None:
    rows = []
    for server in states:
        where = "not the project's"
        if server.embedded:
            where = f"the project's own ({server.data})"
        elif server.other_project:
            where = f"started by the project in {server.other_project}"
        rows.append(
            [
                f"{server.name} {server.version}".strip(),
                server.address,
                f"{server.state} (now)" if server.changed else server.state,
                server.problem or (where if server.state == "running" else ""),
            ]
        )
    console.result_table("", ["server", "address", "state", ""], rows)
    for server in states:
        if server.hint:
            console.note(f"hint: {server.hint}")
    variables = {"PostgreSQL": "PGPORT", "Redis": "REDIS_URL"}
    shared = [variables[server.name] for server in states if server.other_project]
    if shared:
        console.note(
            "hint: `runner down` of the other project stops what is shared; for servers of this "
            f"project's own set {' and '.join(shared)} in profiles/local.env, with free ports, "
            "then `runner up`"
        )


def _show_champion(name: str, champion: str, before: str) -> None:
    if champion == before:
        console.result(f"{name} version {champion} is the champion already.")
        return
    was = f"it was version {before}" if before else "there was none"
    console.result(f"{name} version {champion} is the champion now; {was}.")


def _model_name(model: str) -> str:
    """Return the registered model's name, where `model` may be a recipe's path."""
    if not model.endswith((".yaml", ".yml")):
        return model
    from runner.recipes.recipe import load_recipe

    return load_recipe(Path(model)).registered_model_name


def main() -> None:
    """Run the command line."""
    try:
        app()
    except SystemExit as ended:
        if ended.code and threading.active_count() > 1:
            # A thread still imports what is not needed any more. Python's own end would cut it off
            # anywhere and may crash over what it then says, instead of the exit code.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        raise
