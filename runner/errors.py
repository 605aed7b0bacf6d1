"""The one exception a user is meant to see."""


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
