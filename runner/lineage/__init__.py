"""Column lineage: from raw columns through compiled SQL to features."""
