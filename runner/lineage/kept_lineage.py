"""A project's lineage, kept as long as nothing changes that it was derived from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.project import freshness
from runner.settings import Settings

_NAME = "lineage"


@dataclass(frozen=True)
class KeptLineage:
    """The lineage kept for one state of the project.

    Attributes
    ----------
    project
        The project's fingerprint; None: nothing is kept.
    """

    settings: Settings
    project: str | None

    def read(self) -> Lineage | None:
        """Return what was kept for this state of the project; None if nothing was."""
        kept: Mapping[str, Any] = freshness.kept(self.settings, _NAME)
        if self.project is None or kept.get("key") != self._key:
            return None
        return Lineage(
            parents={
                LineageColumn(*column): tuple(LineageColumn(*each) for each in parents)
                for column, parents in kept["parents"]
            },
            raw=frozenset(kept["raw"]),
            unresolved={LineageColumn(*column): why for column, why in kept["unresolved"]},
            reads={name: tuple(read) for name, read in kept["reads"].items()},
            disabled=frozenset(kept["disabled"]),
            open=frozenset(kept["open"]),
        )

    def write(self, lineage: Lineage) -> None:
        """Keep the lineage, unless the project has changed meanwhile."""
        if self.project is None or self.project != freshness.fingerprint(self.settings):
            return
        content = {
            "key": self._key,
            "parents": list(lineage.parents.items()),
            "raw": sorted(lineage.raw),
            "unresolved": list(lineage.unresolved.items()),
            "reads": lineage.reads,
            "disabled": sorted(lineage.disabled),
            "open": sorted(lineage.open),
        }
        freshness.keep(self.settings, _NAME, content)

    @property
    def _key(self) -> str:
        """What the lineage is of: the project, read by this sqlglot."""
        return f"{self.project} {version('sqlglot')}"
