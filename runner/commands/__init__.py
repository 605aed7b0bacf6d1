"""What each command does from beginning to end: a folder per topic, as in `runner --help`."""
