"""Former path of `runner.warehouse.bigquery`."""
