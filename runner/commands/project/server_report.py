"""The local servers as a table or as JSON, and what to do about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from runner import console
from runner.servers.local_servers import ServerStatus

_VARIABLES = {"PostgreSQL": "PGPORT", "Redis": "REDIS_URL"}


def show_servers(servers: Sequence[ServerStatus], *, as_json: bool) -> None:
    """Print each server with its address, its state and who started it."""
    if as_json:
        console.result_json([asdict(server) for server in servers])
    else:
        rows = [_row(server) for server in servers]
        console.result_table("", ["server", "address", "state", ""], rows)
    for server in servers:
        if server.hint:
            console.note(f"hint: {server.hint}")
    shared = [_VARIABLES[server.name] for server in servers if server.other_project]
    if shared:
        console.note(
            "hint: `runner down` of the other project stops what is shared; for servers of this "
            f"project's own set {' and '.join(shared)} in profiles/local.env, with free ports, "
            "then `runner up`"
        )


def _row(server: ServerStatus) -> list[str]:
    where = "not the project's"
    if server.embedded:
        where = f"the project's own ({server.data})"
    elif server.other_project:
        where = f"started by the project in {server.other_project}"
    return [
        f"{server.name} {server.version}".strip(),
        server.address,
        f"{server.state} (now)" if server.changed else server.state,
        server.problem or (where if server.state == "running" else ""),
    ]
