"""Serve a registered model's predictions from its serving bundle over HTTP.

Stands on `contract` alone: imports neither runner, feast, mlflow, scikit-learn nor dbt.
"""
