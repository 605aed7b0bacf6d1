"""What an outcome model must say, and what is reported when it does not fit its spine."""

import copy
import json
from datetime import timedelta

import pytest

from runner.project.manifest import OutcomeOf, load_manifest

SERVED = {
    "model_name": "string",
    "model_version": "string",
    "prediction": "string",
    "probabilities": "jsonb",
    "server_id": "string",
    "server_row": "bigint",
    "request_id": "string",
    "request_row": "bigint",
}


def node(name, folder, columns, meta):
    return {
        "name": name,
        "alias": name,
        "database": "shop",
        "schema": "spine_data",
        "fqn": ["shop", folder, name],
        "resource_type": "model",
        "description": "One row per user.",
        "patch_path": f"shop://models/{folder}/{name}.yml",
        "original_file_path": f"models/{folder}/{name}.sql",
        "tags": [],
        "columns": {
            column: {"name": column, "data_type": kind, "description": column}
            for column, kind in columns.items()
        },
        "config": {"meta": meta},
        "raw_code": "select 1",
    }


KEYS = {"user_id": "bigint", "event_timestamp": "timestamptz"}
META = {"entities": {"user": "user_id"}, "labels": {"is_bought": "10d"}}
SPINE = node("spine_bought", "spine_data", {**KEYS, "is_bought": "boolean"}, META)
OUTCOME = node(
    "outcome_bought",
    "outcome",
    {**KEYS, **SERVED, "is_bought": "boolean"},
    {**META, "outcome": {"spine": "spine_bought", "label": "is_bought"}},
)
YAML = """\
models:
  - name: outcome_bought
    config:
      meta:
        outcome:
          spine: spine_bought
          label: is_bought
        entities:
          user: user_id
        labels:
          is_bought: 10d
    columns:
      - name: user_id
        data_type: bigint
      - name: is_bought
        data_type: boolean
      - name: server_row
        data_type: string
"""


@pytest.fixture
def load(tmp_path):
    def load_nodes(*nodes):
        (tmp_path / "target").mkdir(exist_ok=True)
        (tmp_path / "models/outcome").mkdir(parents=True, exist_ok=True)
        (tmp_path / "models/outcome/outcome_bought.yml").write_text(YAML)
        content = {
            "metadata": {"project_name": "shop", "adapter_type": "postgres"},
            "nodes": {each["name"]: each for each in nodes},
            "macros": {},
        }
        path = tmp_path / "target/manifest.json"
        path.write_text(json.dumps(content))
        return load_manifest(path)

    return load_nodes


def test_an_outcome_model_is_a_spine_that_knows_whose_label_it_has(load):
    manifest = load(SPINE, OUTCOME)
    assert not manifest.errors
    outcome = manifest.spines["outcome_bought"]
    assert outcome.outcome == OutcomeOf("spine_bought", "is_bought")
    assert outcome.labels == {"is_bought": timedelta(days=10)}
    assert "probabilities" not in outcome.columns  # JSON: nothing to train on
    assert manifest.spines["spine_bought"].outcome is None
    for spine in ("spine_bought", "outcome_bought"):  # a recipe may train on what was really asked
        assert manifest.outcome_of(spine, "is_bought") is outcome
    assert manifest.outcome_of("spine_bought", "is_sold") is None


def meta(key, value):
    return lambda outcome: outcome["config"]["meta"].update({key: value})


def column(name, kind):
    return lambda outcome: outcome["columns"][name].update(data_type=kind)


def without(name):
    return lambda outcome: outcome["columns"].pop(name)


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (meta("labels", {"is_bought": "7d"}), 11, "meta.labels.is_bought is 7d, but 10d in spine_"),
        (meta("entities", {"buyer": "user_id"}), 8, "meta.entities are not those of spine_bought"),
        (column("user_id", "string"), 14, "column user_id is string, but int64 in spine_bought"),
        (column("is_bought", "bigint"), 16, "column is_bought is int64, but bool in spine_bought"),
        (column("server_row", "string"), 18, "column server_row is string, but int64 in the serv"),
        (without("prediction"), 12, "needs a column prediction of the serving log"),
        (without("probabilities"), 12, "needs a JSON column probabilities"),
        (column("probabilities", "text"), 12, "needs a JSON column prob"),
        (
            meta("outcome", {"spine": "spine_bougt", "label": "is_bought"}),
            6,
            "meta.outcome.spine: no spine 'spine_bougt' (did you mean 'spine_bought'?)",
        ),
        (
            meta("outcome", {"spine": "outcome_bought", "label": "is_bought"}),
            6,
            "meta.outcome.spine: no spine 'outcome_bought'",
        ),
        (
            meta("outcome", {"spine": "spine_bought", "label": "bought"}),
            7,
            "meta.outcome.label: spine_bought has no label 'bought' (did you mean 'is_bought'?)",
        ),
        (meta("outcome", {"spine": "spine_bought"}), 5, "meta.outcome names one spine and one lab"),
        (meta("outcome", "spine_bought"), 5, "meta.outcome: expected `{spine: ..., label: ...}`"),
    ],
)
def test_what_does_not_fit_is_reported_where_it_is_written(load, change, line, message):
    outcome = copy.deepcopy(OUTCOME)
    change(outcome)
    manifest = load(SPINE, outcome)
    place = f"models/outcome/outcome_bought.yml:{line}: outcome_bought: {message}"
    [error] = manifest.errors["outcome_bought"]
    assert error.message.startswith(place), error.message
    assert error.hint
    assert set(manifest.spines) == {"spine_bought"}


def test_an_outcome_of_a_broken_spine_is_not_reported_beside_it(load):
    spine = copy.deepcopy(SPINE)
    spine["config"]["meta"]["labels"] = {"is_bought": "soon"}
    assert set(load(spine, OUTCOME).errors) == {"spine_bought"}
