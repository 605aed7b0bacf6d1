"""How errors name values, and the names that were perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from reprlib import Repr
from typing import Any

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def show(value: Any) -> str:
    """Return `value`, read from YAML, in few words: `'x'`, `1.5`, `true`, `nothing`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    return "`key: value` lines" if isinstance(value, dict) else _short.repr(value)


def did_you_mean(name: str, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """Return ` (did you mean 'x'?)` with the one of `names` most like `name`, or nothing.

    In capitals or not makes no difference.
    `likeness` is the least ratio of equal characters that counts, from 0 to 1.
    """
    # Comparing takes time with the square of the length; our names are shorter than this.
    known = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name[:200].lower(), known, n=1, cutoff=likeness)
    return f" (did you mean {known[close[0]]!r}?)" if close else ""
