"""Features in the online store: materialize, audit, ingest, push, refresh."""
