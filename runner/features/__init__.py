"""Paths of version 0.1 that existing projects name; `runner init` does not write them any more.

`profiles/feature_store.*.yaml` names the stores' class paths and `feature_repo/definitions.py`
imports `definitions`. Everything else moved without an alias.
"""
