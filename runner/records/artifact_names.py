"""Where an MLflow run has which file: for what writes a run, and for what reads one."""

ENVIRONMENT = "environment.json"
RECIPE = "recipe.yaml"
ROWS = "dataset/training_rows.parquet"
SLICES = "slices.json"
SQL_DIGESTS = "sql/digests.json"
TUNING = "tuning.json"
