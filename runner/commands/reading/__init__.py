"""What one reads: dbt docs and lineage."""
