"""How messages count, how errors name values, and (from `contract`) names perhaps meant."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

from contract.unknown_model import did_you_mean as did_you_mean

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def counted(number: int, thing: str, things: str = "") -> str:
    """Return `1 row`, `1,200 rows`; `things` is the plural of what does not take an s."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def show(value: Any) -> str:
    """Return `value`, read from YAML, in few words: `'x'`, `1.5`, `true`, `nothing`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    return "`key: value` lines" if isinstance(value, dict) else _short.repr(value)
