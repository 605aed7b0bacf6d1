"""The pages that hints name are there for whoever has installed the package."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner.cli import app
from runner.commands.project.pages import page, topics
from runner.errors import RunnerError

ROOT = Path(__file__).resolve().parents[2]


def test_every_page_of_the_docs_is_a_topic_with_its_title():
    assert set(topics()) == {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert topics()["recipe"] == "Recipes"


def test_the_command_lists_the_topics_and_shows_a_page_as_it_is_when_piped():
    listed = CliRunner().invoke(app, ["help"])
    assert "Point-in-time joins" in listed.stdout
    shown = CliRunner().invoke(app, ["help", "gates"])
    assert shown.stdout == (ROOT / "docs" / "gates.md").read_text()


def test_an_unknown_topic_is_refused_with_the_nearest():
    with pytest.raises(RunnerError, match=r"'recipt' \(did you mean 'recipe'\?\)"):
        page("recipt")


def test_who_asks_for_a_command_is_shown_its_help_option():
    with pytest.raises(RunnerError) as refused:
        page("train")
    assert "`runner train --help`" in refused.value.hint


def test_the_topics_that_hints_name_exist():
    sources = "\n".join(path.read_text() for path in (ROOT / "runner").rglob("*.py"))
    named = set(re.findall(r"`runner help ([a-z-]+)`", sources))
    assert named
    assert named <= set(topics())
