"""What the text of a database's error says when a query of ours has refused a value."""

from __future__ import annotations

import re

from runner.errors import RunnerError

MARK = "\x1f"
"""Stands before the message, between it and the hint, and after that."""

_REFUSED = re.compile(f"{MARK}(.*?){MARK}(.*?){MARK}", re.DOTALL)


def refusal_in(error: object) -> RunnerError | None:
    """Return what the query refused, if that is the reason of the database's `error`."""
    found = _REFUSED.search(str(error))
    return RunnerError(found[1], hint=found[2]) if found else None
