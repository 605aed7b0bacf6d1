"""The recipe file: read strictly, checked as a whole, described by one schema."""
