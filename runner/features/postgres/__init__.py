"""Feature marts in PostgreSQL."""
