"""The point-in-time join: its plan, its SQL, its rows."""
