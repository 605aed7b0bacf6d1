"""Secrets in Secret Manager, each with exactly those who read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp
import pulumi_random as random

from cloud.iam import Identity


@dataclass(frozen=True)
class StoredSecret:
    """A secret with its value.

    Attributes
    ----------
    ready
        What a container that uses it waits for: the value, and the right to read it.
    """

    secret_id: pulumi.Output[str]
    ready: Sequence[pulumi.Resource]


def store_secret(name: str, value: pulumi.Input[str], readers: Sequence[Identity]) -> StoredSecret:
    """Keep `value` where only `readers` may read it."""
    secret = gcp.secretmanager.Secret(
        f"secret-{name}",
        secret_id=name,
        replication=gcp.secretmanager.SecretReplicationArgs(
            auto=gcp.secretmanager.SecretReplicationAutoArgs()
        ),
        # Not before the services are on, for which the accounts wait.
        opts=pulumi.ResourceOptions(depends_on=[reader.account for reader in readers]),
    )
    version = gcp.secretmanager.SecretVersion(
        f"secret-{name}-value",
        secret=secret.id,
        secret_data=pulumi.Output.secret(value),
    )
    grants = [
        gcp.secretmanager.SecretIamMember(
            f"secret-{name}-{reader.name}",
            secret_id=secret.secret_id,
            role="roles/secretmanager.secretAccessor",
            member=reader.member,
        )
        for reader in readers
    ]
    return StoredSecret(secret.secret_id, [version, *grants])


def random_text(name: str) -> pulumi.Output[str]:
    """Return 48 letters and digits, the same at every `pulumi up`."""
    return random.RandomPassword(f"random-{name}", length=48, special=False).result
