"""Former path of `runner.online.online_store`."""

from runner.online.online_store import EnvRedisOnlineStore, EnvRedisOnlineStoreConfig

__all__ = ["EnvRedisOnlineStore", "EnvRedisOnlineStoreConfig"]
