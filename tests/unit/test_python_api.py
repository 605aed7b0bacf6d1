"""What `import runner` gives, and costs."""

import subprocess
import sys

import pytest

import runner
from runner import Project, RunnerError


def test_importing_runner_imports_nothing_heavy():
    heavy = ("pandas", "pyarrow", "feast", "mlflow")
    code = f"import sys, runner; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_runner_has_what_it_names_and_nothing_else():
    assert {name for name in runner.__all__ if getattr(runner, name)} == set(runner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Projekt'"):
        _ = runner.Projekt


def test_a_folder_without_a_project_is_refused(tmp_path):
    with pytest.raises(RunnerError, match=r"no dbt_project\.yml"):
        Project(tmp_path)
