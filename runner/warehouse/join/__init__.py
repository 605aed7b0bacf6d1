"""The point-in-time join, as far as it is the same in every warehouse."""
