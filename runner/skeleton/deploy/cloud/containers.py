"""What a container is given: variables, secrets as variables, secrets as files.

Cloud Run has one set of types for services and another for jobs; both are made from one `Given`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pulumi
import pulumi_gcp.cloudrunv2 as run

from cloud.network import Network
from cloud.secrets import StoredSecret

_LATEST = "latest"
_READ_ONLY = 0o444


@dataclass(frozen=True)
class Given:
    """The environment of a container.

    Attributes
    ----------
    files
        By absolute path; each file's folder holds nothing else.
    """

    variables: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, StoredSecret] = field(default_factory=dict)
    files: Mapping[str, StoredSecret] = field(default_factory=dict)

    def __or__(self, more: Given) -> Given:
        """Return both; what `more` has wins."""
        return Given(
            {**self.variables, **more.variables},
            {**self.secrets, **more.secrets},
            {**self.files, **more.files},
        )

    @property
    def ready(self) -> list[pulumi.Resource]:
        """What the container waits for."""
        used = [*self.secrets.values(), *self.files.values()]
        return [resource for secret in used for resource in secret.ready]

    def service_envs(self) -> list[run.ServiceTemplateContainerEnvArgs]:
        """Return the variables of a service's container."""
        plain = [
            run.ServiceTemplateContainerEnvArgs(name=name, value=value)
            for name, value in self.variables.items()
        ]
        return plain + [
            run.ServiceTemplateContainerEnvArgs(
                name=name,
                value_source=run.ServiceTemplateContainerEnvValueSourceArgs(
                    secret_key_ref=run.ServiceTemplateContainerEnvValueSourceSecretKeyRefArgs(
                        secret=secret.secret_id, version=_LATEST
                    )
                ),
            )
            for name, secret in self.secrets.items()
        ]

    def service_mounts(self) -> list[run.ServiceTemplateContainerVolumeMountArgs]:
        """Return where a service's container finds its files."""
        return [
            run.ServiceTemplateContainerVolumeMountArgs(
                name=_volume(path), mount_path=_folder(path)
            )
            for path in self.files
        ]

    def service_volumes(self) -> list[run.ServiceTemplateVolumeArgs]:
        """Return the files of a service."""
        return [
            run.ServiceTemplateVolumeArgs(
                name=_volume(path),
                secret=run.ServiceTemplateVolumeSecretArgs(
                    secret=secret.secret_id,
                    items=[
                        run.ServiceTemplateVolumeSecretItemArgs(
                            path=PurePosixPath(path).name, version=_LATEST, mode=_READ_ONLY
                        )
                    ],
                ),
            )
            for path, secret in self.files.items()
        ]

    def job_envs(self) -> list[run.JobTemplateTemplateContainerEnvArgs]:
        """Return the variables of a job's container."""
        plain = [
            run.JobTemplateTemplateContainerEnvArgs(name=name, value=value)
            for name, value in self.variables.items()
        ]
        return plain + [
            run.JobTemplateTemplateContainerEnvArgs(
                name=name,
                value_source=run.JobTemplateTemplateContainerEnvValueSourceArgs(
                    secret_key_ref=run.JobTemplateTemplateContainerEnvValueSourceSecretKeyRefArgs(
                        secret=secret.secret_id, version=_LATEST
                    )
                ),
            )
            for name, secret in self.secrets.items()
        ]

    def job_mounts(self) -> list[run.JobTemplateTemplateContainerVolumeMountArgs]:
        """Return where a job's container finds its files."""
        return [
            run.JobTemplateTemplateContainerVolumeMountArgs(
                name=_volume(path), mount_path=_folder(path)
            )
            for path in self.files
        ]

    def job_volumes(self) -> list[run.JobTemplateTemplateVolumeArgs]:
        """Return the files of a job."""
        return [
            run.JobTemplateTemplateVolumeArgs(
                name=_volume(path),
                secret=run.JobTemplateTemplateVolumeSecretArgs(
                    secret=secret.secret_id,
                    items=[
                        run.JobTemplateTemplateVolumeSecretItemArgs(
                            path=PurePosixPath(path).name, version=_LATEST, mode=_READ_ONLY
                        )
                    ],
                ),
            )
            for path, secret in self.files.items()
        ]


def limits(cpu: int, memory_gib: int) -> dict[str, str]:
    """Return the size of a container as Cloud Run writes it."""
    return {"cpu": str(cpu), "memory": f"{memory_gib}Gi"}


def service_network(network: Network) -> run.ServiceTemplateVpcAccessArgs:
    """Return the way through our network: MLflow takes no request from outside it."""
    return run.ServiceTemplateVpcAccessArgs(
        egress="ALL_TRAFFIC",
        network_interfaces=[
            run.ServiceTemplateVpcAccessNetworkInterfaceArgs(
                network=network.network.name, subnetwork=network.subnet.name
            )
        ],
    )


def job_network(network: Network) -> run.JobTemplateTemplateVpcAccessArgs:
    """Return the same for a job."""
    return run.JobTemplateTemplateVpcAccessArgs(
        egress="ALL_TRAFFIC",
        network_interfaces=[
            run.JobTemplateTemplateVpcAccessNetworkInterfaceArgs(
                network=network.network.name, subnetwork=network.subnet.name
            )
        ],
    )


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _volume(path: str) -> str:
    return "-".join(_parts(path))


def _parts(path: str) -> Iterator[str]:
    return (part for part in PurePosixPath(path).parent.parts if part != "/")
