"""SQL identifiers, quoted: the one place that does it."""


def quote(identifier: str) -> str:
    """Return `identifier` as PostgreSQL writes it between double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def quote_table(schema: str, table: str) -> str:
    """Return `"schema"."table"`."""
    return f"{quote(schema)}.{quote(table)}"
