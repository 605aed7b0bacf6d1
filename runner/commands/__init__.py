"""What each command does from beginning to end: one module per command."""
