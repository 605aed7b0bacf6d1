"""The docs name things that exist, and everything a user can type is in them."""

import re
from pathlib import Path

import pytest
import typer.main
import yaml

from runner.cli import app
from runner.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("dbt_project/", "runner/", "serving/", "recipes/", "examples/", "docs/", "profiles/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_every_file_named_exists(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    named = [name for name in re.findall(r"`([\w./-]+)`", text) if name.startswith(FOLDERS)]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_command_is_in_the_readme():
    commands = typer.main.get_command(app).commands
    assert [name for name in commands if f"runner {name}" not in README.read_text()] == []


def test_every_command_and_option_explains_itself():
    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        for option in command.params:
            if option.name != "help":
                assert getattr(option, "help", None), f"{name} {option.name}"


def test_every_make_target_is_in_the_readme_and_the_other_way_round():
    rules = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = README.read_text().replace("`bench-", "`make bench-")
    named = set(re.findall(r"make ([a-z-]+)", text)) - {"and"}
    assert named <= set(rules)
    assert set(rules) - {"help", "install", "clean"} <= named


def test_the_recipe_in_the_readme_is_the_recipe_of_the_repository(tmp_path):
    shown = re.search(r"```yaml\n# recipes/rf.yaml\n(.*?)```", README.read_text(), re.DOTALL)
    real = yaml.safe_load((ROOT / "recipes/rf.yaml").read_text())
    real.pop("description")
    real["estimator"]["init_args"].pop("n_jobs")
    assert yaml.safe_load(shown[1]) == real
    (tmp_path / "rf.yaml").write_text(shown[1])
    load_recipe(tmp_path / "rf.yaml")
