"""Exposures are generated from recipes, and never stand in dbt's way."""

import json
import os
from dataclasses import replace

import pytest
import yaml

from runner.commands.builds import exposures
from runner.commands.builds.exposures import connect_exposures, write_exposures
from runner.commands.reading.docs import annotate, complete_overview
from runner.errors import RunnerError
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.settings import Settings
from tests.modelling import make_recipe
from tests.served_month import dbt_model, write_manifest


@pytest.fixture
def project(tmp_path):
    """A project with one recipe, `rf`, whose dbt models have files under `sql/`."""
    (tmp_path / "dbt_project.yml").write_text('model-paths: ["sql"]\n')
    (tmp_path / "recipes").mkdir()
    make_recipe(tmp_path / "recipes" / "rf.yaml")
    for name in ("activity", "spine_y"):
        (tmp_path / "sql" / "marts").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sql" / "marts" / f"{name}.sql").write_text("select 1")
    env = {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"}
    return Settings("local", tmp_path, env)


def written(project):
    write_exposures(project)
    path = project.root / "sql" / "_generated" / "exposures.yml"
    return {each["name"]: each for each in yaml.safe_load(path.read_text())["exposures"]}


def test_a_recipe_is_an_ml_exposure_and_its_endpoint_an_application(project):
    found = written(project)
    assert found["recipe_rf"]["type"] == "ml"
    assert found["recipe_rf"]["config"]["meta"]["reads"] == ["spine_y", "activity"]
    assert found["endpoint_rf"]["type"] == "application"
    assert found["endpoint_rf"]["config"]["meta"]["reads"] == ["activity"]
    assert not any("ref(" in str(exposure) for exposure in found.values())


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ("''", "Predicts y."),
        ("Is it so, or may it be?", "Is it so, or may it be? Predicts y."),
        ("Predicts y of spine_y.", "Predicts y of spine_y."),  # as `runner new` writes it
    ],
)
def test_the_label_is_told_once(project, description, told):
    make_recipe(project.root / "recipes" / "rf.yaml", more=f"description: {description}\n")
    assert written(project)["recipe_rf"]["description"] == told


def test_a_recipe_that_is_gone_or_wrong_has_none(project):
    (project.root / "recipes" / "wrong.yaml").write_text("nonsense: 1\n")
    assert set(written(project)) == {"recipe_rf", "endpoint_rf"}
    (project.root / "recipes" / "rf.yaml").unlink()
    assert written(project) == {}


def test_a_recipe_whose_label_has_an_outcome_model_is_monitored(project):
    address = {"PGHOST": "h", "PGPORT": "1", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}
    write_manifest(replace(project, env=project.env | address))
    found = written(project)
    assert set(found) == {"recipe_rf", "endpoint_rf", "monitoring_rf"}
    assert found["monitoring_rf"]["type"] == "analysis"
    assert found["monitoring_rf"]["config"]["meta"]["reads"] == ["outcome_y"]
    assert "schema `monitoring`" in found["monitoring_rf"]["description"]


def test_what_is_monitored_is_read_from_the_figures_if_dbt_has_them(project):
    address = {"PGHOST": "h", "PGPORT": "1", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}
    write_manifest(replace(project, env=project.env | address))
    content = json.loads(project.manifest_path.read_bytes())
    name = "stg_monitoring__figures"
    content["nodes"][f"model.shop.{name}"] = dbt_model(name, "staging", "d", {}, {})
    project.manifest_path.write_text(json.dumps(content))
    assert written(project)["monitoring_rf"]["config"]["meta"]["reads"] == ["outcome_y", name]


def test_the_docs_manifest_connects_exposures_with_the_dbt_models_that_are_there():
    def exposure(file, *reads):
        meta = {"recipe": "r.yaml", "reads": list(reads)}
        return {"original_file_path": file, "config": {"meta": meta}, "depends_on": {"nodes": []}}

    manifest = {
        "nodes": {
            "model.shop.mart": {"name": "mart", "resource_type": "model"},
            "test.shop.spine": {"name": "spine", "resource_type": "test"},
        },
        "exposures": {
            "exposure.shop.recipe_rf": exposure("m/_generated/exposures.yml", "spine", "mart"),
            "exposure.shop.own": {"original_file_path": "m/own.yml", "depends_on": {"nodes": []}},
        },
        "parent_map": {},
        "child_map": {},
    }
    connect_exposures(manifest)
    found = {key: each["depends_on"]["nodes"] for key, each in manifest["exposures"].items()}
    assert found == {"exposure.shop.recipe_rf": ["model.shop.mart"], "exposure.shop.own": []}
    assert manifest["parent_map"] == {"exposure.shop.recipe_rf": ["model.shop.mart"]}
    assert manifest["child_map"] == {"model.shop.mart": ["exposure.shop.recipe_rf"]}


def test_names_are_identifiers_whatever_the_recipe_is_called(project):
    (project.root / "recipes" / "rf.yaml").rename(project.root / "recipes" / "rf-2.b.yaml")
    assert set(written(project)) == {"recipe_rf_2_b", "endpoint_rf_2_b"}


def test_an_unchanged_file_is_not_touched_and_git_does_not_see_it(project):
    written(project)
    folder = project.root / "sql" / "_generated"
    os.utime(folder / "exposures.yml", (0, 0))
    written(project)
    assert (folder / "exposures.yml").stat().st_mtime == 0
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "exposures.yml"]
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_champion_is_in_the_meta_of_both(project, monkeypatch):
    champion = {"champion_version": "3", "metrics": {"test_roc_auc": 0.8}, "mlflow_run_id": "r"}
    monkeypatch.setattr(exposures, "_champions", lambda *_: {"m": champion})
    for exposure in written(project).values():
        assert exposure["config"]["meta"].items() >= champion.items()
        assert "url" not in exposure


def test_the_champions_scores_are_a_table_and_its_run_a_url(project, monkeypatch):
    metrics = {"test_roc_auc": 0.8, "test_roc_auc_low": 0.75, "test_roc_auc_high": 0.85}
    run = "https://mlflow.example/#/experiments/1/runs/r"
    champion = {"champion_version": "3", "metrics": metrics, "mlflow_run": run}
    monkeypatch.setattr(exposures, "_champions", lambda *_: {"m": champion})
    for exposure in written(project).values():
        assert "**Champion: version 3.** `runner ui m@champion`" in exposure["description"]
        assert exposure["description"].endswith("\n| roc_auc | 0.8000 | 0.7500 to 0.8500 |")
        assert exposure["url"] == run


def test_no_registry_is_no_champion_and_is_not_created(project):
    meta = written(project)["recipe_rf"]["config"]["meta"]
    assert meta == {"recipe": "recipes/rf.yaml", "reads": ["spine_y", "activity"]}
    assert not (project.root / "mlruns").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML: while parsing"),
        ("- shop", "model-paths: expected one or more folders in a list, got nothing"),
        (
            "model-paths: models",
            "model-paths: expected one or more folders in a list, got 'models'",
        ),
        ("model-paths: []", "model-paths: expected one or more folders in a list, got a list"),
    ],
)
def test_a_dbt_project_file_that_cannot_be_read_is_told(project, text, message):
    (project.root / "dbt_project.yml").write_text(text)
    with pytest.raises(RunnerError) as told:
        write_exposures(project)
    assert told.value.message.startswith(f"{project.root / 'dbt_project.yml'}: {message}")


def test_braces_in_a_description_are_no_jinja(project):
    path = project.root / "recipes" / "rf.yaml"
    path.write_text(f'{path.read_text()}\ndescription: "{{{{ x }}}} {{% y %}}"\n')
    text = written(project)["recipe_rf"]["description"]
    assert "x }}" in text
    assert "{{" not in text
    assert "{%" not in text


def test_a_column_that_dbt_describes_ends_with_its_raw_columns():
    columns = {name: {"name": name, "description": "The sum."} for name in ("a", "b", "c")}
    node = {"resource_type": "model", "name": "mart", "columns": columns}
    lineage = Lineage(
        {
            LineageColumn("mart", "a"): (LineageColumn("raw.t", "x"), LineageColumn("raw.t", "y")),
            LineageColumn("mart", "b"): (),
            LineageColumn("mart", "c"): (),
        },
        frozenset({"raw.t"}),
        {LineageColumn("mart", "b"): "it is not SQL"},
    )
    annotate({"nodes": {"model.mart": node}}, lineage)
    assert columns["a"]["description"] == "The sum.\n\nFrom `raw.t.x`, `raw.t.y`."
    assert columns["b"]["description"] == "The sum.\n\nNot resolved: mart.b: it is not SQL."
    assert columns["c"]["description"] == "The sum."


def test_the_overview_ends_with_ml_models_and_feature_marts():
    def model(name, **meta):
        node = {"name": name, "unique_id": f"model.shop.{name}", "description": "One row | each."}
        return {**node, "resource_type": "model", "config": {"meta": meta}}

    exposure = {
        "name": "recipe_rf",
        "label": "rf",
        "type": "ml",
        "owner": {"name": "growth"},
        "unique_id": "exposure.shop.recipe_rf",
        "description": "Predicts y.\n\n| roc_auc |",
    }
    manifest = {
        "metadata": {"project_name": "shop"},
        "docs": {"doc.shop.__overview__": {"block_contents": "# The shop"}},
        "exposures": {"e": exposure, "f": {**exposure, "type": "application"}},
        "nodes": {
            "m": model("mart", entities={"user": "user_id"}, owner="me"),
            "s": model("spine_y", entities={"user": "user_id"}, labels={"y": "7d"}),
            "t": model("stg_x"),
        },
    }
    complete_overview(manifest)
    head = ["", "| Name | What it is | Owner |", "|---|---|---|"]
    assert manifest["docs"]["doc.shop.__overview__"]["block_contents"].splitlines() == [
        *("# The shop", "", "## ML models", *head),
        "| [rf](#!/exposure/exposure.shop.recipe_rf) | Predicts y. | growth |",
        *("", "## Feature marts", *head),
        "| [mart](#!/model/model.shop.mart) | One row \\| each. | me |",
    ]
    complete_overview({**manifest, "docs": {}})  # dbt's own overview stays
