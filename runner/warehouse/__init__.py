"""The warehouses: point-in-time joins and feature marts in PostgreSQL and BigQuery."""
