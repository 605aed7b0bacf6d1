"""Write docs/cli.md from the commands themselves: `python -m tests.cli_reference`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click
import typer.main

from runner.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
HEAD = """\
# Command line: every command and option

`python -m tests.cli_reference` writes this page from the commands; do not edit it. `--help` after
any command shows the same. Before a command, `-q` shows no progress, and `-v` also all that
dbt says. Results go to stdout, progress and notes to stderr. The exit code is 0 for success, 1 for
an expected failure, which ends with one `error:` and one `hint:` line, and 2 for wrong usage.
"""


def page() -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    return "\n".join([HEAD, *_sections(root, click.Context(root, info_name="runner"))])


def _sections(group: click.Command, context: click.Context) -> Iterator[str]:
    for name, command in sorted(getattr(group, "commands", {}).items()):
        inner = click.Context(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _sections(command, inner)
        elif not command.hidden:
            yield _section(command, inner)


def _section(command: click.Command, context: click.Context) -> str:
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    arguments = [_argument(param) for param in shown if param.param_type_name == "argument"]
    parts = [
        f"## {' '.join([context.command_path, *arguments])}",
        cleandoc(command.help or ""),
        "\n".join(["| Argument or option | Meaning |", "|---|---|"]),
    ]
    rows = [_row(param, context) for param in shown]
    return "\n".join(["\n\n".join(parts), *rows]) + "\n"


def _argument(param: click.Parameter) -> str:
    name = param.display_name_raw
    name = name.upper() if name == param.name else name
    name = f"{name}..." if param.nargs == -1 else name
    return name if param.required else f"[{name}]"


def _name(param: click.Parameter, shown: str) -> str:
    """Return what to type; `shown` is how `--help` names it."""
    if param.param_type_name == "argument":
        return _argument(param)
    names = ", ".join(sorted(param.opts, key=len)) + "".join(f"/{o}" for o in param.secondary_opts)
    if param.is_flag:
        return names
    kind = shown.partition("<")[2].removesuffix(">")
    if not kind:
        return f"{names} {param.display_name_raw}"
    usual = {"int": "N", "path": "FILE"}.get(kind.partition(" ")[0], "TEXT")
    return f"{names} {kind if '|' in kind else usual}"


def _row(param: click.Parameter, context: click.Context) -> str:
    record = param.get_help_record(context)
    assert record is not None, param.name
    meaning = " ".join(record[1].split()).replace(" [required]", "")
    meaning = re.sub(r"\[default: \((.*?)\)", r"[default: \1", meaning)
    name, meaning = (text.replace("|", r"\|") for text in (_name(param, record[0]), meaning))
    return f"| `{name}` | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
