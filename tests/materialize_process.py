"""A materialization in a process of its own: few imports, so that it is quick to start."""

from __future__ import annotations

from runner.online.materialize import materialize
from runner.project.manifest import FeatureMart
from runner.settings import Settings
from tests.instants import at


def run(settings: Settings, marts: list[FeatureMart], hours: float, full: bool) -> None:
    """Materialize `marts` at `hours` from the tests' now."""
    materialize(settings, marts, full=full, as_of=at(hours))
