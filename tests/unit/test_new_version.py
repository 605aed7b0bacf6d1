"""The YAML that `runner new-version` edits keeps every other line."""

import pytest
import yaml

from runner.commands.builds.new_version import with_version
from runner.errors import RunnerError

BLOCK = """\
# the marts
models:
  - name: other
    description: Another.
  - name: reading  # the one
    description: >
      One row
      per user.
    columns:
      - name: amount

  - name: third
"""
FIRST = {"v": 1, "defined_in": "reading", "config": {"alias": "reading"}}


@pytest.mark.parametrize("text", [BLOCK, "models:\n- name: reading\n  columns: []"])
def test_each_version_is_declared_and_nothing_else_changes(tmp_path, text):
    path = tmp_path / "reading.yml"
    path.write_text(text)
    for number in (2, 3):
        path.write_text(with_version(path, "reading", "reading", number))
    again = yaml.safe_load(path.read_text())
    [reading] = [model for model in again["models"] if model["name"] == "reading"]
    assert reading.pop("latest_version") == 1
    assert sorted(reading.pop("versions"), key=lambda each: each["v"]) == [
        FIRST,
        {"v": 2},
        {"v": 3},
    ]
    assert again == yaml.safe_load(text)
    assert set(text.splitlines()) <= set(path.read_text().splitlines())


def test_yaml_in_braces_is_refused(tmp_path):
    path = tmp_path / "reading.yml"
    path.write_text("models: [{name: reading}]\n")
    with pytest.raises(RunnerError, match="reading: its lines are in braces"):
        with_version(path, "reading", "reading", 2)
    assert path.read_text() == "models: [{name: reading}]\n"
