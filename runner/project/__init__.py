"""The dbt project: dbt itself, its manifest and the columns of its compiled SQL."""
