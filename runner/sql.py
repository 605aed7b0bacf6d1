"""SQL identifiers, quoted: the one place that does it."""


def quote(identifier: str) -> str:
    """Return `identifier` as PostgreSQL writes it between double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def quote_table(schema: str, table: str) -> str:
    """Return `"schema"."table"`."""
    return f"{quote(schema)}.{quote(table)}"


def text_postgres(text: str) -> str:
    """Return `text` as PostgreSQL's SQL writes a string, `standard_conforming_strings` on."""
    return "'" + text.replace("'", "''") + "'"


def quote_bigquery(*path: str) -> str:
    """Return a column, or `project.dataset.table`, as BigQuery writes it between backticks."""
    return ".".join("`" + part.replace("\\", "\\\\").replace("`", "\\`") + "`" for part in path)


def text_bigquery(text: str) -> str:
    """Return `text` as BigQuery's SQL writes a string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def quoted(adapter_type: str, *path: str) -> str:
    """Return a column, or a path to a table, as the warehouse of dbt's `adapter_type` writes it."""
    return quote_bigquery(*path) if adapter_type == "bigquery" else ".".join(map(quote, path))
