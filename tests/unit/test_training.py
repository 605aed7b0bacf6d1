"""What training does before it imports what is heavy."""

import os

import pytest

from runner.commands.training.background_imports import let_threads_sleep
from runner.commands.training.training import train
from runner.errors import RunnerError
from runner.settings import Settings
from tests.recipe_files import recipe_text


@pytest.mark.parametrize(("users_own", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_openmp_threads_do_not_spin_unless_the_user_wants_it(monkeypatch, users_own, policy):
    monkeypatch.setenv("OMP_WAIT_POLICY", users_own or "")
    if users_own is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == policy


def test_a_wrong_argument_is_refused_before_dbt_builds_anything(tmp_path):
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text({14: "  init_args: {n_estimators: -5}"}))
    with pytest.raises(RunnerError, match=r"yaml:14:15: estimator\.init_args\.n_estimators"):
        train(Settings("local", tmp_path, {}), path)
