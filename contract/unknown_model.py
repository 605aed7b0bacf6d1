"""The error for a model that nobody registered: one sentence, whoever looks for the model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from contract.serving_errors import RegistryError


def not_registered(name: str, names: Sequence[str]) -> RegistryError:
    """Return the error for a model that is not among the registered `names`."""
    return RegistryError(
        f"no model {name!r} is registered{did_you_mean(name, names)}",
        hint=f"registered models: {', '.join(names) or 'none yet'}; `runner train` with a "
        "recipe registers one",
    )


def did_you_mean(name: str, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """Return ` (did you mean 'x'?)` with the one of `names` most like `name`, or nothing.

    In capitals or not makes no difference.
    `likeness` is the least ratio of equal characters that counts, from 0 to 1.
    """
    # Comparing takes time with the square of the length; our names are shorter than this.
    known = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name[:200].lower(), known, n=1, cutoff=likeness)
    return f" (did you mean {known[close[0]]!r}?)" if close else ""
