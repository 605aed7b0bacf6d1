"""Former path of `runner.warehouse.postgres`."""
