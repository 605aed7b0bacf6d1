"""Former path of `runner.feature_store.feast_objects`."""

from runner.feature_store.feast_objects import feast_objects

__all__ = ["feast_objects"]
