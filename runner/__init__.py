"""The thin runner: from one recipe to a registered, served ML model."""

__version__ = "0.1.0"
