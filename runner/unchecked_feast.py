"""Feast without the type checks that it compiles into its classes at every import.

Feast decorates them with typeguard's `typechecked`, which parses a whole module again for each
method: 3.1 of the 4.4 s of CPU that `import feast` takes. typeguard leaves the checks out under
`python -O`; the commands leave out Feast's, whose objects only our type-checked code makes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def leave_feast_unchecked() -> None:
    """Make a later import of Feast leave out its type checks.

    Only for our own programs: a notebook that imports `runner` gets Feast as it is.
    """
    sys.meta_path.insert(0, _BeforeFeast())


class _BeforeFeast(MetaPathFinder):
    """Finds no module, but learns that Feast is imported: only then is typeguard worth its time."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname == "feast":
            sys.meta_path.remove(self)
            _replace_decorator()
        return None


def _replace_decorator() -> None:
    import typeguard

    check: Callable[..., object] = typeguard.typechecked

    def typechecked(target: object = None, **options: object) -> object:
        if getattr(target, "__module__", "").startswith("feast."):
            return target
        return check(target, **options)

    typeguard.typechecked = typechecked  # type: ignore[assignment]
