"""HTTP: what a request may be, how it is read, and what the API says of itself."""
