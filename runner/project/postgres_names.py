"""How PostgreSQL and dbt change a name: what a project must not leave to them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from runner.project.manifest_file import ManifestNode, NodeColumn, view_name
from runner.project.node_problem import NodeProblem

MOST_BYTES = 63
"""PostgreSQL cuts a longer name off, and says nothing."""
_BACKUP = "__dbt_backup"  # dbt's longest suffix; it cuts the dbt model's name to make room
_PLAIN = re.compile(r"[a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*")
# PostgreSQL's keywords that are no column names. A test compares them with a server's.
_KEYWORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table tablesample
then to trailing true union unique user using variadic verbose when where window with
"""
RESERVED = frozenset(_KEYWORDS.split())


def column_name_problems(node: ManifestNode) -> Iterator[NodeProblem]:
    """Yield what is wrong with the names of the columns that the YAML of a dbt model describes."""
    enforced = node["config"].get("contract", {}).get("enforced", False)
    for column in node["columns"].values():
        if found := _column_name_problem(column, enforced=enforced):
            yield NodeProblem(("columns", column["name"]), *found)


def _column_name_problem(column: NodeColumn, *, enforced: bool) -> tuple[str, str] | None:
    name = column["name"]
    if len(name.encode()) > MOST_BYTES:
        problem = f"column {name} has {len(name.encode())} bytes; PostgreSQL keeps {MOST_BYTES}"
        return problem, "shorten it in the SQL and the YAML"
    if column.get("quote"):
        return None
    folded = re.sub("[A-Z]", lambda letter: letter[0].lower(), name)
    if folded != name:
        return (
            f"column {name} has upper-case letters, which PostgreSQL folds to {folded}",
            f"write {folded}, or quote the column in the SQL and set `quote: true` beside its name",
        )
    # A contract writes names into `create table`; `select … as` takes any keyword.
    if enforced and (name in RESERVED or not _PLAIN.fullmatch(name)):
        reason = "is a reserved word" if name in RESERVED else "is no plain name"
        return (
            f"column {name} {reason}, which PostgreSQL takes in quotes only",
            "rename it, or quote it in the SQL and set `quote: true` beside its name",
        )
    return None


def model_name_problems(
    models: Iterable[ManifestNode],
) -> Iterator[tuple[ManifestNode, NodeProblem]]:
    """Yield the dbt models whose tables' names are cut off, or are alike once dbt has cut them."""
    alike: dict[tuple[str, str, bytes], list[ManifestNode]] = defaultdict(list)
    for node in models:
        name = node["alias"].encode()
        if node["config"].get("materialized") == "ephemeral":
            continue
        if len(name) > MOST_BYTES:
            problem = f"its name has {len(name)} bytes; PostgreSQL keeps {MOST_BYTES}"
            yield node, NodeProblem((), problem, "rename the file, or set a shorter `alias`")
        kept = name[: MOST_BYTES - len(_BACKUP)]
        alike[node["database"], node["schema"], kept].append(node)
    for (_, _, kept), nodes in alike.items():
        for node in nodes if len(nodes) > 1 else ():
            others = ", ".join(view_name(other) for other in nodes if other is not node)
            problem = (
                f"its name begins with the same {len(kept)} bytes as {others}, so dbt gives their "
                f"temporary tables one name, {kept.decode(errors='replace')}{_BACKUP}"
            )
            hint = "rename one, or give it another `alias`, so that they differ earlier"
            yield node, NodeProblem((), problem, hint)
