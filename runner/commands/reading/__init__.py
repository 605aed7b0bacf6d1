"""Documentation of the project: dbt docs and lineage."""
