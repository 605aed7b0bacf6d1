"""The online store's configuration.

`REDIS_URL` (`rediss://` for TLS, `?ssl_ca_certs=…` for its authority) says where it is,
`online_store.redis_type` in the feature_store yaml says whether it is a cluster, to Feast as to us.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from runner.errors import RunnerError
from runner.settings import Settings


@dataclass(frozen=True)
class OnlineConfig:
    """What the feature_store yaml says about the online store.

    Attributes
    ----------
    project
        Feast's project name.
    key_ttl_seconds
        How long Redis keeps a key after it was last written or confirmed; None: for ever.
    is_cluster
        True for a Redis Cluster.
    """

    project: str
    key_ttl_seconds: int | None
    is_cluster: bool


def load_online_config(settings: Settings) -> OnlineConfig:
    """Return the online store's configuration for the settings' target; Feast is not imported.

    Raises
    ------
    RunnerError
        If there is no feature_store yaml, or it names Sentinels.
    """
    path = settings.feature_store_yaml
    if not path.is_file():
        raise RunnerError(
            f"{path}: no such file", hint="copy it from the runner repository's profiles/ folder"
        )
    content = yaml.safe_load(path.read_text())
    store = content.get("online_store") or {}
    if store.get("redis_type") == "redis_sentinel":
        raise RunnerError(
            f"{path}: online_store.redis_type: redis_sentinel is Feast's own way to name Sentinels",
            hint="write redis_type: redis, and REDIS_URL=redis+sentinel://<host>:26379/<master>",
        )
    return OnlineConfig(
        project=content["project"],
        key_ttl_seconds=store.get("key_ttl_seconds") or None,
        is_cluster=store.get("redis_type") == "redis_cluster",
    )
