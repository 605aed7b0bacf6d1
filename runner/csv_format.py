"""How CSV files are read."""

import pyarrow.csv

PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)
"""A quoted cell may have line breaks. Without this, Arrow cuts large files inside cells too, and
may take the rest of a cell for a row."""
