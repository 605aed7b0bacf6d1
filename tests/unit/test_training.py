"""What training sets up before it imports what is heavy."""

import os

import pytest

from runner.commands.training.background_imports import importing


@pytest.mark.parametrize(("users_own", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_openmp_threads_do_not_spin_unless_the_user_wants_it(monkeypatch, users_own, policy):
    monkeypatch.setenv("OMP_WAIT_POLICY", users_own or "")
    if users_own is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with importing():
        assert os.environ["OMP_WAIT_POLICY"] == policy
