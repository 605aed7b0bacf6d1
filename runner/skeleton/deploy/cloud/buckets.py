"""Cloud Storage: MLflow's artifacts, processed data with Feast's registry, and archived logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from cloud.iam import Identities, Identity
from cloud.settings import Retention, Settings

# Feast asks for the bucket itself, too.
_USES = ("objectUser", "legacyBucketReader")
_NEARLINE_DAYS = 30
_LOGS = 'resource.type = ("cloud_run_revision" OR "cloud_run_job" OR "cloud_scheduler_job")'


@dataclass(frozen=True)
class Buckets:
    """The names of the buckets that processes use, and the grants that they wait for."""

    artifacts: pulumi.Output[str]
    data: pulumi.Output[str]
    grants: Sequence[pulumi.Resource]


def create_buckets(settings: Settings, stack: str, identities: Identities) -> Buckets:
    """Return the buckets; the archive gets its logs from a sink."""
    retention = settings.retention
    after: list[pulumi.Resource] = [identities.runner.account]  # which waits for the services
    artifacts = _bucket(settings, f"ml-artifacts-{stack}", [_old_versions(retention)], after)
    data = _bucket(
        settings,
        f"ml-data-processed-{stack}",
        [_old_versions(retention), _delete("predictions/", retention.data_days)],
        after,
    )
    archive = _bucket(
        settings,
        f"ml-logs-archive-{stack}",
        [_nearline(), _delete("", retention.logs_days)],
        after,
    )
    _archive_logs(archive)
    grants = [
        _grant(bucket, name, identity, role)
        for bucket, name, identity in (
            (artifacts, "artifacts", identities.mlflow),
            (artifacts, "artifacts", identities.runner),
            (artifacts, "artifacts", identities.refresher),
            (data, "data", identities.runner),
            (data, "data", identities.refresher),
        )
        for role in _USES
    ]
    return Buckets(artifacts.name, data.name, grants)


def _bucket(
    settings: Settings,
    name: str,
    rules: list[gcp.storage.BucketLifecycleRuleArgs],
    after: list[pulumi.Resource],
) -> gcp.storage.Bucket:
    return gcp.storage.Bucket(
        name,
        # The design's names are taken: all of Google Cloud shares one set of them.
        name=f"{settings.project}-{name}",
        location=settings.location,
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        versioning=gcp.storage.BucketVersioningArgs(enabled=True),
        lifecycle_rules=rules,
        force_destroy=False,
        opts=pulumi.ResourceOptions(depends_on=after),
    )


def _old_versions(retention: Retention) -> gcp.storage.BucketLifecycleRuleArgs:
    return gcp.storage.BucketLifecycleRuleArgs(
        action=gcp.storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=gcp.storage.BucketLifecycleRuleConditionArgs(
            days_since_noncurrent_time=retention.old_versions_days, with_state="ARCHIVED"
        ),
    )


def _delete(prefix: str, days: int) -> gcp.storage.BucketLifecycleRuleArgs:
    return gcp.storage.BucketLifecycleRuleArgs(
        action=gcp.storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=gcp.storage.BucketLifecycleRuleConditionArgs(
            age=days, matches_prefixes=[prefix] if prefix else None
        ),
    )


def _nearline() -> gcp.storage.BucketLifecycleRuleArgs:
    return gcp.storage.BucketLifecycleRuleArgs(
        action=gcp.storage.BucketLifecycleRuleActionArgs(
            type="SetStorageClass", storage_class="NEARLINE"
        ),
        condition=gcp.storage.BucketLifecycleRuleConditionArgs(age=_NEARLINE_DAYS),
    )


def _archive_logs(archive: gcp.storage.Bucket) -> None:
    sink = gcp.logging.ProjectSink(
        "logs",
        name="ml-logs-archive",
        destination=archive.name.apply(lambda name: f"storage.googleapis.com/{name}"),
        filter=_LOGS,
        unique_writer_identity=True,
    )
    gcp.storage.BucketIAMMember(
        "logs-writer",
        bucket=archive.name,
        role="roles/storage.objectCreator",
        member=sink.writer_identity,
    )


def _grant(
    bucket: gcp.storage.Bucket, name: str, identity: Identity, role: str
) -> gcp.storage.BucketIAMMember:
    return gcp.storage.BucketIAMMember(
        f"{name}-{identity.name}-{role}",
        bucket=bucket.name,
        role=f"roles/storage.{role}",
        member=identity.member,
    )
