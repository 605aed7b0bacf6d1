"""Cloud Scheduler starts the jobs, as an account that may do nothing else."""

from __future__ import annotations

import pulumi_gcp as gcp
import pulumi_gcp.cloudrunv2 as run

from cloud.iam import Identity
from cloud.settings import Settings


def schedule_job(
    name: str, cron: str, job: run.Job, settings: Settings, scheduler: Identity
) -> gcp.cloudscheduler.Job:
    """Return the schedule; starting the job is tried three times."""
    invoker = run.JobIamMember(
        f"invoker-{name}",
        name=job.name,
        location=settings.region.value,
        role="roles/run.invoker",
        member=scheduler.member,
    )
    # By the grant's name, so that no schedule comes before it.
    uri = invoker.name.apply(
        lambda started: (
            "https://run.googleapis.com/v2/projects/"
            f"{settings.project}/locations/{settings.region.value}/jobs/{started}:run"
        )
    )
    return gcp.cloudscheduler.Job(
        f"schedule-{name}",
        name=name,
        region=settings.region.value,
        schedule=cron,
        time_zone="Etc/UTC",
        retry_config=gcp.cloudscheduler.JobRetryConfigArgs(
            retry_count=3, min_backoff_duration="30s"
        ),
        http_target=gcp.cloudscheduler.JobHttpTargetArgs(
            http_method="POST",
            uri=uri,
            oauth_token=gcp.cloudscheduler.JobHttpTargetOauthTokenArgs(
                service_account_email=scheduler.account.email
            ),
        ),
    )
