"""What commands share about dbt's builds and the definitions of features."""
