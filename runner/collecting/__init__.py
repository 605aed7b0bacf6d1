"""From the streams in Redis to raw tables in the warehouse, each entry once."""
