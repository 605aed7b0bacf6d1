"""Who acts: one service account for each kind of process, and its roles in the project.

Roles on a single dataset, bucket, secret or job are granted where that is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

_PROJECT_ROLES = {
    "runner": ("bigquery.jobUser", "bigquery.readSessionUser"),
    "refresher": ("bigquery.jobUser", "bigquery.readSessionUser"),
    "mlflow": ("cloudsql.client",),
    "api": ("monitoring.metricWriter",),
    "scheduler": (),
}


@dataclass(frozen=True)
class Identity:
    """A service account.

    Attributes
    ----------
    grants
        Its roles in the project: what it runs waits for them.
    """

    name: str
    account: gcp.serviceaccount.Account
    grants: Sequence[pulumi.Resource]

    @property
    def member(self) -> pulumi.Output[str]:
        """It, as policies name it."""
        return self.account.member


@dataclass(frozen=True)
class Identities:
    """Every service account: none of them is Google's default one.

    Attributes
    ----------
    refresher
        The runner, where it also writes raw tables.
    """

    runner: Identity
    refresher: Identity
    mlflow: Identity
    api: Identity
    scheduler: Identity


def create_identities(project: str, after: Sequence[pulumi.Resource]) -> Identities:
    """Return the service accounts with their roles in the project."""
    made = {name: _identity(project, name, after) for name in _PROJECT_ROLES}
    return Identities(**made)


def _identity(project: str, name: str, after: Sequence[pulumi.Resource]) -> Identity:
    account = gcp.serviceaccount.Account(
        f"account-{name}", account_id=f"ml-{name}", opts=pulumi.ResourceOptions(depends_on=after)
    )
    grants = [
        gcp.projects.IAMMember(
            f"{name}-{role}", project=project, role=f"roles/{role}", member=account.member
        )
        for role in _PROJECT_ROLES[name]
    ]
    return Identity(name, account, grants)
