"""Commands that predict, and that check and release prediction APIs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runner.command_line import Model, Target, Version
from runner.settings import load_settings, read_settings

app = typer.Typer()
command = partial(app.command, rich_help_panel="Predictions")


@command()
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
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: a .parquet or .csv file.",
            show_default="predictions.parquet",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="SCHEMA.TABLE",
            help="Write to a table of the warehouse instead.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Also write how each model input moves the score."),
    ] = False,
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

    With `--explain`, a file gets the columns `base_value` and `contribution_…`, exact SHAP values
    that add up to the score; a table gets them as JSON in the column `explanation`. Linear models
    and trees can be explained.

    With `--to`, replaces what the same version wrote into the table on the same day (UTC), all or
    nothing; the table has a partition per day, `predicted_on`.
    """
    from runner.commands.models.model_argument import version_uri
    from runner.commands.predictions.prediction import predict as predict_rows
    from runner.commands.predictions.prediction import show_predictions
    from runner.commands.predictions.prediction_output import OutputFile, OutputTable

    if to and output:
        raise typer.BadParameter("--to writes to a table, --output to a file: name one of them")
    where = OutputTable(to) if to else OutputFile(output or Path("predictions.parquet"))
    written = predict_rows(
        load_settings(target), version_uri(model), source, where, timezone, explain=explain
    )
    show_predictions(written, where)


@command()
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
    from runner.commands.models.model_argument import registered_name
    from runner.commands.served.serving_launch import serve as serve_model

    serve_model(load_settings(target), registered_name(model), host, port)


@command("smoke-test")
def smoke_test(
    model: Model,
    url: Annotated[
        str, typer.Option(envvar="API_URL", help="The API's address.")
    ] = "http://127.0.0.1:8000",
    target: Target = None,
) -> None:
    """Check that a running API is ready and predicts the same as `runner predict` for one entity.

    Takes an entity from the feature marts, asks the API for its prediction, and compares that with
    the champion's prediction from the point-in-time join. Exits with 1 if they differ, or if the
    API serves another version than the champion. Sends the first key in SERVING_API_KEYS and, to
    Cloud Run, an identity token.
    """
    from runner.commands.cloud.smoke_test import smoke_test as test_api
    from runner.commands.cloud.smoke_test_report import show_smoke_test
    from runner.commands.models.model_argument import registered_name

    show_smoke_test(test_api(load_settings(target), registered_name(model), url), url)


@command()
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
    """Deploy new revisions of the APIs on Google Cloud without a gap; undo it if they fail.

    The new revisions start without requests, pass `runner smoke-test`, get 10 % of the requests,
    pass it again without a server error, and then get all. If a step fails, the revisions that
    answered before get every request again, and the exit code is 1. Each step is a `pulumi up`,
    with the shares in `deploy/Pulumi.<stack>.yaml`: commit that file afterwards.
    """
    from runner.commands.cloud.release import release as release_apis
    from runner.commands.cloud.release import roll_back
    from runner.commands.cloud.release_report import show_released
    from runner.commands.cloud.released_stack import ReleasedStack

    deployed = ReleasedStack(read_settings(target).root, stack)
    show_released(roll_back(deployed) if rollback else release_apis(deployed, watch))
