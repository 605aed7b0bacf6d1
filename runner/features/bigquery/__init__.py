"""Feature marts in BigQuery."""
