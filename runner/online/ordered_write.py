"""Rows into the online store one by one, each unless a newer one is there."""

from __future__ import annotations

from collections.abc import Sequence

import hiredis

from contract.online_write import KEPT, WRITE
from contract.push_rows import PushWrite
from runner.online.connection import OnlineConnection


def write_in_order(connection: OnlineConnection, writes: Sequence[PushWrite]) -> int:
    """Write rows, the later of equal event times last; return how many found a newer value."""
    script = connection.client.script_load(WRITE)
    commands = [hiredis.pack_command(write.command(b"EVALSHA", script)) for write in writes]
    return connection.ask(commands, [write.key for write in writes]).count(KEPT)
