"""Does compiling a project ask the warehouse, or the clock? Then no compiled SQL may be kept.

dbt's Jinja may run queries while it compiles, and says nowhere whether it did. What a dbt model may
call is looked for by name: every macro that its SQL mentions, every macro that those mention, and
so on. That finds more than is called, and never less.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

_JINJA = re.compile(r"{{.*?}}|{%.*?%}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_ASKS = re.compile(
    r"""\b(run_query | statement | load_result | load_relation | load_cached_relation
         | run_started_at | invocation_id | modules\.(?!re\b|itertools\b) | get_columns_in_\w+
         | dbt_metadata_envs | selected_resources )
      | \badapter\s*\.\s*(?!dispatch\b|quote\w*\b) | \badapter\s*\[ | \bapi\s*\.\s*Relation
      | \b(store|context|builtins)\b""",
    re.VERBOSE,
)
_DBT_PACKAGES = ("dbt", "dbt_postgres", "dbt_bigquery")
# It asks whether the table exists, unless dbt rebuilds it: then the answer is no.
_INCREMENTAL = "is_incremental"
_FULL_REFRESH = "should_full_refresh"  # a project may have its own
# It asks, too, but not for `dbt compile`, whose SQL is all that is kept.
COLLECTED = "collected"
_NOT_TO_COMPILE = "flags.WHICH != 'compile'"


def asks_warehouse(
    manifest: Mapping[str, Any], keys: Iterable[str] | None = None, *, full_refresh: bool
) -> bool:
    """Return whether compiled SQL may depend on more than the project.

    Parameters
    ----------
    manifest
        The content of dbt's manifest.
    keys
        dbt's unique ids of what was compiled; None: every dbt model and snapshot.
    full_refresh
        Whether it is compiled with `--full-refresh`.
    """
    nodes = manifest["nodes"]
    if keys is None:
        wanted = {"model", "snapshot"}
        keys = [key for key, node in nodes.items() if node["resource_type"] in wanted]
    chosen = [nodes[key] for key in keys if key in nodes]
    if any(node.get("language", "sql") != "sql" for node in chosen):
        return True
    macros = [macro for macro in manifest["macros"].values() if not _waits_for_a_build(macro)]
    if full_refresh and _obeys_full_refresh(chosen, macros):
        macros = [macro for macro in macros if macro["name"] != _INCREMENTAL]
    return _any_asks([text for node in chosen for text in _texts(node)], macros)


def _texts(node: Mapping[str, Any]) -> Iterable[str]:
    """Return all that dbt renders to compile the node."""
    yield node.get("raw_code") or ""
    if node["resource_type"] == "test":  # their arguments and `where` are rendered with the SQL
        yield str(node.get("test_metadata"))
        yield str(node["config"])


def _waits_for_a_build(macro: Mapping[str, Any]) -> bool:
    return macro["name"] == COLLECTED and _NOT_TO_COMPILE in macro["macro_sql"]


def _obeys_full_refresh(
    models: Iterable[Mapping[str, Any]], macros: Iterable[Mapping[str, Any]]
) -> bool:
    """Return whether `--full-refresh` decides what `is_incremental()` says, in every dbt model."""
    return all(node["config"].get("full_refresh") is None for node in models) and all(
        macro["package_name"] == "dbt"
        or (macro["name"] == _FULL_REFRESH and "flags.FULL_REFRESH" in macro["macro_sql"])
        for macro in macros
        if macro["name"] in {_INCREMENTAL, _FULL_REFRESH}
    )


def macros_called(manifest: Mapping[str, Any], key: str) -> list[str]:
    """Return every macro, but dbt's own, that the SQL of the node `key` may call."""
    macros = list(manifest["macros"].values())
    own = {macro["macro_sql"] for macro in macros if macro["package_name"] not in _DBT_PACKAGES}
    return sorted(own & _reachable(list(_texts(manifest["nodes"][key])), macros))


def _any_asks(texts: Iterable[str], macros: Iterable[Mapping[str, Any]]) -> bool:
    reached = {*texts, *_reachable(texts, macros)}
    return any(_ASKS.search(jinja) for text in reached for jinja in _JINJA.findall(text))


def _reachable(texts: Iterable[str], macros: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the macros that the texts name, those that these name, and so on."""
    named: dict[str, list[str]] = defaultdict(list)
    for macro in macros:
        named[macro["name"]].append(macro["macro_sql"])
        if "__" in macro["name"]:  # what `adapter.dispatch` may choose
            named[macro["name"].partition("__")[2]].append(macro["macro_sql"])
    waiting, seen = list(texts), set[str]()
    while waiting:
        for jinja in _JINJA.findall(waiting.pop()):
            for word in _WORD.findall(jinja):
                new = set(named.pop(word, ())) - seen
                seen |= new
                waiting += new
    return seen
