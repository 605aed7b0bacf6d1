"""Feature marts named by view, by recipe, or all; a wrong one does not keep the others back."""

import json

import pytest

from runner.commands.project.checks.machine import dbt_models
from runner.errors import RunnerError
from runner.feature_store.selection import require_none_left_out, select_marts
from runner.settings import Settings
from tests.unit.test_manifest import MART, changed

OTHER = changed(MART, name="other", alias="other", columns__user_id__data_type="numeric(38,0)")


@pytest.fixture
def project(tmp_path):
    """Return a function that writes dbt's manifest of these nodes, and gives the settings."""

    def write(*nodes):
        settings = Settings("local", tmp_path, {})
        settings.manifest_path.parent.mkdir(exist_ok=True)
        content = {
            "metadata": {"project_name": "shop"},
            "nodes": {node["name"]: node for node in nodes},
            "macros": {},
        }
        settings.manifest_path.write_text(json.dumps(content))
        return settings

    return write


def test_all_are_those_that_are_right_and_the_wrong_ones_are_told_afterwards(project):
    settings = project(MART, OTHER)
    assert [mart.name for mart in select_marts(settings, [])] == ["user_activity"]
    with pytest.raises(RunnerError, match=r"other: join key user_id is numeric\(38,0\)"):
        require_none_left_out(settings)
    require_none_left_out(project(MART))


@pytest.mark.parametrize("chosen", [["other"], []])
def test_a_wrong_mart_that_is_named_or_the_only_one_is_refused_with_the_reason(project, chosen):
    settings = project(OTHER)
    with pytest.raises(RunnerError, match=r"other: join key user_id is numeric") as refused:
        select_marts(settings, chosen)
    assert refused.value.hint.startswith(
        "write `cast(user_id as bigint)` or `cast(user_id as text)`"
    )


def test_doctor_names_what_is_wrong_with_dbt_models(project):
    assert dbt_models(project(MART)) == "1 feature marts and 0 spines are right"
    with pytest.raises(RunnerError, match="other: join key"):
        dbt_models(project(MART, OTHER))
