"""Small writes that Redis takes although it is full, so that what makes room in it can work."""

from __future__ import annotations

from runner.online.connection import OnlineConnection
from runner.online.scripts import EVEN_IF_FULL


def write_though_full(
    connection: OnlineConnection, command: str, key: bytes | str, *arguments: bytes | str | float
) -> object:
    """Run a command with one key; return its reply.

    With `noeviction`, a full Redis refuses whatever may take memory. `runner collect` frees far
    more than a lease and its notes take.
    """
    reply: object = connection.client.eval(EVEN_IF_FULL, 1, key, command, *arguments)
    return reply
