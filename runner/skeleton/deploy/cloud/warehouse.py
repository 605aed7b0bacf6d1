"""BigQuery's datasets, and what each account may do in them."""

from __future__ import annotations

import pulumi
import pulumi_gcp as gcp

from cloud.iam import Identities, Identity

RAW = "raw_events"
# The raw tables belong to others: the runner reads them, and only a refresh, which collects the
# serving log and events, writes. `staging` is dbt's own.
DATASETS = {
    RAW: "dataViewer",
    "staging": "dataEditor",
    "feature_mart": "dataEditor",
    "spine_data": "dataEditor",
    "feast_registry": "dataEditor",
    "monitoring": "dataEditor",
}


def create_datasets(location: str, identities: Identities) -> list[pulumi.Resource]:
    """Return the grants: what uses a dataset waits for them."""
    grants: list[pulumi.Resource] = []
    for name, role in DATASETS.items():
        dataset = gcp.bigquery.Dataset(
            f"dataset-{name}",
            dataset_id=name,
            location=location,
            delete_contents_on_destroy=False,
            opts=pulumi.ResourceOptions(depends_on=[identities.runner.account]),
        )
        grants.append(_grant(dataset, name, role, identities.runner))
        grants.append(_grant(dataset, name, "dataEditor", identities.refresher))
    return grants


def _grant(
    dataset: gcp.bigquery.Dataset, name: str, role: str, identity: Identity
) -> gcp.bigquery.DatasetIamMember:
    return gcp.bigquery.DatasetIamMember(
        f"dataset-{name}-{identity.name}",
        dataset_id=dataset.dataset_id,
        role=f"roles/bigquery.{role}",
        member=identity.member,
    )
