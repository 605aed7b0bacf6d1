"""The online store: written, read and audited in Feast's own format."""
