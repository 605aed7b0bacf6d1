"""The cloud: what it costs, release, smoke test."""
