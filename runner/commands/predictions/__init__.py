"""Batch predictions, from entity keys to a file or a table."""
