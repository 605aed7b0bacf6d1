"""What was served: start the API, collect its log, monitor."""
