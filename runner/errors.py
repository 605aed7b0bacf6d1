"""The one exception a user is meant to see, and several of it at once."""

from __future__ import annotations

from collections.abc import Sequence


class RunnerError(Exception):
    """An expected failure: what went wrong and where, and what to do next.

    The command line prints it as one `error:` line and one `hint:` line and exits with 1.

    Parameters
    ----------
    message
        What went wrong, naming the file, line, key, table or address.
    hint
        The next command or edit that gets the user further.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CombinedError(RunnerError):
    """Several expected failures of one file, reported as one.

    Parameters
    ----------
    errors
        At least one, in the order in which they are reported.
    hint
        What to do about all of them.
    """

    def __init__(self, errors: Sequence[RunnerError], *, hint: str) -> None:
        super().__init__("; ".join(error.message for error in errors), hint=hint)
        self.errors = tuple(errors)
