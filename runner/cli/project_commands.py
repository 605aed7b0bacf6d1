"""Commands about a project, its servers and its settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from runner import console
from runner.command_line import AsJson, Target
from runner.settings import load_settings, read_settings

app = typer.Typer()
command = partial(app.command, rich_help_panel="A project and its servers")


@command()
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
    from runner.commands.project.new_project import write_project
    from runner.commands.project.new_project_report import show_project

    show_project(write_project(folder), folder)


@command()
def up(as_json: AsJson = False, target: Target = None) -> None:
    """Start PostgreSQL and Redis, unless they already answer at the configured addresses.

    Starts real servers from PyPI wheels on loopback, with their data in `data/embedded/`. If your
    own servers, or those of `docker compose -f docker-compose.local.yml up -d`, answer, uses them.
    """
    from runner.commands.project.server_report import show_servers
    from runner.servers import local_servers

    show_servers(local_servers.up(load_settings(target)), as_json=as_json)


@command()
def down(as_json: AsJson = False, target: Target = None) -> None:
    """Stop the servers that `runner up` started; their data stays."""
    from runner.commands.project.server_report import show_servers
    from runner.servers import local_servers

    show_servers(local_servers.down(load_settings(target)), as_json=as_json)


@command()
def status(as_json: AsJson = False, target: Target = None) -> None:
    """Show whether PostgreSQL and Redis answer, where, and who started them.

    Exits with 1 unless both answer, so that a health check can use it. Notes say how much of the
    serving log and of events waits for `runner collect`, how old the features are that
    `runner refresh` keeps fresh, and whether the online store lacks most features of a champion.
    """
    from runner.commands.project.checks.log_backlog import waiting_at_hand, waiting_events
    from runner.commands.project.checks.online_features import HINT, problems_at_hand
    from runner.commands.project.checks.refresh_lag import refresh_at_hand
    from runner.commands.project.server_report import show_servers
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


@command()
def doctor(as_json: AsJson = False, target: Target = None) -> None:
    """Check every connection, permission, version, index and setting that the target needs.

    Prints a line for each check, with a hint if it fails, and changes nothing. Exits with 1 if any
    check fails.
    """
    from runner.commands.project.doctor import diagnose
    from runner.commands.project.doctor_report import show_findings

    findings = diagnose(read_settings(target))
    show_findings(findings, as_json=as_json)
    if not all(found.is_ok for found in findings):
        raise typer.Exit(1)


@command()
def env(target: Target = None) -> None:
    """Print the project's variables for a shell: `eval "$(runner env)"`.

    Then bare `mlflow`, `dbt` and `feast` use the project's servers, from any folder. Omits what is
    already in the environment; the environment overrides the file, so open a new shell after you
    change `profiles/`.
    """
    from runner.commands.project.shell_environment import exports

    for line in exports(load_settings(target)):
        console.result(line)


@command("help")
def help_(
    topic: Annotated[str | None, typer.Argument(help="Such as recipe.", show_default=False)] = None,
) -> None:
    """Show a page of the documentation, or list them."""
    from runner.commands.project.pages import page, topics

    if topic is None:
        console.result_table("", ["topic", "page"], [[*each] for each in topics().items()])
    else:
        console.result_markdown(page(topic))
