"""What the shell completes, and that it stays quiet where nothing can be read."""

import json
import sqlite3
from types import SimpleNamespace

import pytest

from runner.commands.models.model_argument import version_uri
from runner.commands.project import completion
from runner.commands.project.new_project import write_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_project(tmp_path / "shop")
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.fixture
def context():
    return SimpleNamespace(params={"target": None})


def test_recipes_are_completed_by_path(project):
    assert completion.recipes("rec") == ["recipes/reorder.yaml"]
    assert completion.recipes("other") == []


def test_registered_models_are_completed(project, context, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with sqlite3.connect("mlflow.db") as database:
        database.execute("create table registered_models (name text)")
        database.execute("insert into registered_models values ('reorder'), ('spend')")
    database.close()
    assert completion.models(context, "") == ["recipes/reorder.yaml", "reorder", "spend"]
    assert completion.models(context, "s") == ["spend"]
    assert completion.trained(context, "s") == ["spend@champion"]
    assert completion.versions(context, "s") == ["spend"]
    assert completion.versions(context, "spend@ch") == ["spend@champion", "spend@challenger"]
    assert completion.trained(context, "spend@ch") == ["spend@champion", "spend@challenger"]


def test_what_cannot_be_read_offers_nothing(tmp_path, monkeypatch, context, capsys):
    monkeypatch.chdir(tmp_path)
    assert completion.models(context, "") == completion.views_and_recipes(context, "") == []
    (tmp_path / "dbt_project.yml").touch()
    (tmp_path / "target").mkdir()
    (tmp_path / "target/manifest.json").write_text(json.dumps({"metadata": 1}))
    assert completion.views(context, "") == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("model", "uri"),
    [
        ("spend", "models:/spend@champion"),
        ("spend@challenger", "models:/spend@challenger"),
        ("spend/3", "models:/spend/3"),
        ("recipes/reorder.yaml", "models:/shop_reorder@champion"),
        ("recipes/reorder.yaml@challenger", "models:/shop_reorder@challenger"),
    ],
)
def test_a_model_argument_names_the_champion_or_another_version(project, model, uri):
    assert version_uri(model) == uri
