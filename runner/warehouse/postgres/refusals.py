"""Values that a query must not answer with: the server stops at the first one and says so.

A condition that is false for all rows costs a comparison per row; only the row that is refused
evaluates the cast of a text to boolean, which fails with that text.
"""

from __future__ import annotations

from runner.sql import text_postgres
from runner.warehouse.join.refusals import MARK
from runner.warehouse.join.time_limits import HINT, NO_TIME


def refuse_if(bad: str, value: str, message: str, hint: str) -> str:
    """Return `value` as SQL; a row for which `bad` is true ends the query.

    Parameters
    ----------
    message
        SQL of a text that depends on the row: what is constant would be evaluated in advance.
    """
    text = f"{text_postgres(MARK)} || {message} || {text_postgres(MARK + hint + MARK)}"
    return f"case when {bad} then case when ({text})::boolean then {value} end else {value} end"


def require_time(stamp: str, column: str, relation: str, source: str) -> str:
    """Return the condition that `stamp` is not before the year 1; a row where it is ends the query.

    Parameters
    ----------
    stamp, column
        The expression, and the quoted column of `source`, what follows `from`.
    relation
        What the error calls that column.
    """
    bad = f"{stamp} < '0001-01-01'"
    count = f"(select count(*) from {source} as counted where {impossible(f'counted.{column}')})"
    message = (
        f"{text_postgres(relation + f' is {NO_TIME} in ')} || {count} || "
        f"{text_postgres(' rows, such as ')} || {stamp}::text"
    )
    return refuse_if(bad, "true", message, HINT)


def impossible(stamp: str) -> str:
    """Return the condition that `stamp`, a date or a time, is none that Python has."""
    return f"({stamp} < '0001-01-01' or {stamp} >= '10000-01-01')"
