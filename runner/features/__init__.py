"""Feast: definitions from dbt, point-in-time retrieval, the online store."""
