"""Online features of a request: read from Redis, checked, overridden."""
