"""The one image of every part, built from the project's Dockerfile and known by its digest."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pulumi
import pulumi_docker_build as docker
import pulumi_gcp as gcp

from cloud.settings import Settings, project_root


def build_image(settings: Settings, after: Sequence[pulumi.Resource]) -> pulumi.Output[str]:
    """Return the image's address with its digest, pushed."""
    repository = gcp.artifactregistry.Repository(
        "images",
        repository_id="ml",
        format="DOCKER",
        location=settings.region.value,
        opts=pulumi.ResourceOptions(depends_on=after),
    )
    address = f"{settings.region.value}-docker.pkg.dev/{settings.project}/ml/runner"
    root = project_root()
    image = docker.Image(
        "image",
        tags=[f"{address}:latest"],
        context=docker.BuildContextArgs(location=str(root)),
        dockerfile=docker.DockerfileArgs(location=str(root / "Dockerfile")),
        build_args={"GIT_COMMIT": _commit()},
        platforms=[docker.Platform.LINUX_AMD64],
        push=True,
        opts=pulumi.ResourceOptions(depends_on=[repository]),
    )
    return image.ref


def _commit() -> str:
    """Return the commit that trainings record; empty outside git."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
