"""What each command does, told from beginning to end: one module per story."""
