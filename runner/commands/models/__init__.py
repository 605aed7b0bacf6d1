"""Registered models and runs: compare, promote, reproduce, list."""
