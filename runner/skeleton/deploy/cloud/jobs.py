"""What runs now and then: a Cloud Run job for each story of the runner.

A job starts with an empty disk, so without dbt's manifest: what needs one makes it first. To add a
job, add a line to `planned_jobs` and its schedule to `settings.Schedules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp.cloudrunv2 as run

from cloud.containers import Given, job_network, limits
from cloud.iam import Identity
from cloud.network import Network
from cloud.settings import Settings, recipe_name


@dataclass(frozen=True)
class PlannedJob:
    """A job: its commands, one after the other, and when they run (None: by hand).

    Attributes
    ----------
    writes_raw
        Whether it writes raw tables, as an account of its own.
    """

    name: str
    commands: tuple[str, ...]
    schedule: str | None
    writes_raw: bool = False


def planned_jobs(settings: Settings) -> list[PlannedJob]:
    """Return every job of the stack."""
    when = settings.schedules
    # Without an API they find nothing to do, which is a failure.
    refresh, monitor = (when.refresh, when.monitor) if settings.serve else (None, None)
    jobs = [
        PlannedJob("refresh", ("runner refresh",), refresh, writes_raw=True),
        PlannedJob(
            "materialize", ("dbt build --target cloud", "runner materialize"), when.materialize
        ),
        # Without a schedule or commands of its own: `gcloud run jobs execute shell --args=-ec,…`
        PlannedJob("shell", ("runner doctor",), None),
    ]
    for recipe in settings.recipes:
        name = recipe_name(recipe)
        jobs.append(PlannedJob(f"train-{name}", (f"runner train {recipe}",), when.train))
        audit = ("dbt parse --target cloud", f"runner audit {recipe}")
        jobs.append(PlannedJob(f"audit-{name}", audit, when.audit))
        monitored = ("dbt parse --target cloud", f"runner monitor {recipe}")
        jobs.append(PlannedJob(f"monitor-{name}", monitored, monitor))
    return jobs


def smoke_test(recipe: str) -> PlannedJob:
    """Return the job that runs `runner smoke-test` on the newest revision of a recipe's API."""
    commands = ("dbt parse --target cloud", f"runner smoke-test {recipe}")
    return PlannedJob(f"smoke-{recipe_name(recipe)}", commands, None)


def create_job(
    job: PlannedJob,
    settings: Settings,
    image: pulumi.Output[str],
    given: Given,
    identity: Identity,
    network: Network,
    after: Sequence[pulumi.Resource],
) -> run.Job:
    """Return the job; it is not tried again by itself, for the next one starts where it stopped."""
    size = settings.jobs
    return run.Job(
        f"job-{job.name}",
        name=job.name,
        location=settings.region.value,
        deletion_protection=False,
        template=run.JobTemplateArgs(
            template=run.JobTemplateTemplateArgs(
                service_account=identity.account.email,
                max_retries=0,
                timeout=f"{size.timeout_minutes * 60}s",
                vpc_access=job_network(network),
                volumes=given.job_volumes(),
                containers=[
                    run.JobTemplateTemplateContainerArgs(
                        image=image,
                        commands=["sh"],
                        args=["-ec", " && ".join(job.commands)],
                        envs=given.job_envs(),
                        volume_mounts=given.job_mounts(),
                        resources=run.JobTemplateTemplateContainerResourcesArgs(
                            limits=limits(size.cpu, size.memory_gib)
                        ),
                    )
                ],
            )
        ),
        opts=pulumi.ResourceOptions(depends_on=[*given.ready, *identity.grants, *after]),
    )
