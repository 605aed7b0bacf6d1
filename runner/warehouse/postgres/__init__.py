"""Feature marts and the point-in-time join in PostgreSQL."""
