"""The online store: Memorystore over TLS with a password, or a Redis somewhere else."""

from __future__ import annotations

import pulumi
import pulumi_gcp as gcp

from cloud.containers import Given
from cloud.iam import Identities
from cloud.network import Network
from cloud.secrets import StoredSecret, store_secret
from cloud.settings import Memorystore, Settings

_CA = "/secrets/redis/ca.pem"


def create_online_store(settings: Settings, network: Network, identities: Identities) -> Given:
    """Return what a container needs to reach it: its address, and who signs its certificate."""
    if isinstance(settings.online_store, Memorystore):
        url, authority = _memorystore(settings.online_store, network)
    else:
        config = pulumi.Config()
        url, authority = config.require_secret("redis_url"), config.get_secret("redis_ca")
    files = {} if authority is None else {_CA: _secret("redis-ca", authority, identities)}
    return Given(secrets={"REDIS_URL": _secret("redis-url", url, identities)}, files=files)


def _memorystore(
    size: Memorystore, network: Network
) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
    instance = gcp.redis.Instance(
        "online-store",
        name="online",
        tier=size.tier,
        memory_size_gb=size.size_gb,
        redis_version="REDIS_7_2",
        authorized_network=network.network.id,
        auth_enabled=True,
        transit_encryption_mode="SERVER_AUTHENTICATION",
        # Evicting a feature would be a silent NULL.
        redis_configs={"maxmemory-policy": "noeviction"},
        persistence_config=_snapshots(size),
    )
    url = pulumi.Output.format(
        "rediss://:{0}@{1}:{2}/0?ssl_ca_certs={3}",
        instance.auth_string,
        instance.host,
        instance.port,
        _CA,
    )
    return url, instance.server_ca_certs.apply(lambda certs: certs[0].cert or "")


def _snapshots(size: Memorystore) -> gcp.redis.InstancePersistenceConfigArgs | None:
    """Return when snapshots are made; what one node keeps is left to Google.

    Google's documentation recommends them for STANDARD_HA alone, and restores from them by itself.
    """
    if size.tier == "BASIC":
        return None
    return gcp.redis.InstancePersistenceConfigArgs(
        persistence_mode="RDB", rdb_snapshot_period="TWELVE_HOURS"
    )


def _secret(name: str, value: pulumi.Input[str], identities: Identities) -> StoredSecret:
    return store_secret(name, value, [identities.runner, identities.refresher, identities.api])
