"""What the runner writes and serving reads: serving bundle, scoring, Feast's online format.

Imports neither runner nor serving, nor feast, mlflow, scikit-learn or dbt.
"""
