"""The thin runner: from one recipe to a registered, served ML model.

In Python, a project is `Project`: see `docs/python-api.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Champion", "Project", "RunnerError", "__version__"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runner.errors import RunnerError
    from runner.python_api import Champion, Project
else:

    def __getattr__(name: str) -> object:
        """Import what a notebook asks for; `runner --help` does not wait for pandas."""
        modules = {"Champion": "python_api", "Project": "python_api", "RunnerError": "errors"}
        if name in modules:
            return getattr(import_module(f"runner.{modules[name]}"), name)
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
