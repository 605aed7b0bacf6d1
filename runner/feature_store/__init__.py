"""Feast: definitions from dbt, the feature store, which feature marts a command selects."""
