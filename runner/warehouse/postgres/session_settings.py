"""How our transactions are set, whatever the environment, the server or the role says.

libpq sends `PGTZ`, `PGDATESTYLE` and `PGCLIENTENCODING` beside the start-up options and they win
over them; a pooler (PgBouncer and its kin) refuses or drops those options, and hands the session on
after each transaction. So every transaction sets what it rests on itself.
"""

from __future__ import annotations

from runner.sql import text_postgres

_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "jit": "off",  # compiling takes longer than the joins of a few million rows gain
}
# Of all isolation levels only this takes its snapshot after the locks of each query: an older one
# finds a table empty that was truncated and filled meanwhile.
READ_ONLY = "set transaction isolation level read committed, read only"
READ_WRITE = "set transaction isolation level read committed, read write"


def settings_sql(**more: str) -> str:
    """Return the query that sets the transaction it runs in: ours, and `more`."""
    settings = {**_SETTINGS, **more}
    calls = (
        f"set_config('{name}', {text_postgres(value)}, true)" for name, value in settings.items()
    )
    return f"select {', '.join(calls)}"
