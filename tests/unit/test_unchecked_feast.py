"""Commands import Feast without the checks that typeguard would compile into it."""

import subprocess
import sys

CODE = """
from runner.unchecked_feast import leave_feast_unchecked
leave_feast_unchecked()
import feast, typeguard
from runner.wording import show

feast.Field(name=1, dtype=feast.types.Int64)  # checked, it would raise
print(typeguard.typechecked(show) is show)
"""


def test_feast_is_not_checked_and_everything_else_is():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
