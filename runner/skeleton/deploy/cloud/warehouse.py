"""BigQuery's datasets, and what each account may do in them."""

from __future__ import annotations

import pulumi
import pulumi_gcp as gcp

from cloud.iam import Identities

# The raw tables are somebody else's: the runner reads them. `staging` is dbt's own.
DATASETS = {
    "raw_events": "dataViewer",
    "staging": "dataEditor",
    "feature_mart": "dataEditor",
    "spine_data": "dataEditor",
    "feast_registry": "dataEditor",
}


def create_datasets(location: str, identities: Identities) -> list[pulumi.Resource]:
    """Return the grants: what uses a dataset waits for them."""
    return [_dataset(name, role, location, identities) for name, role in DATASETS.items()]


def _dataset(
    name: str, role: str, location: str, identities: Identities
) -> gcp.bigquery.DatasetIamMember:
    dataset = gcp.bigquery.Dataset(
        f"dataset-{name}",
        dataset_id=name,
        location=location,
        delete_contents_on_destroy=False,
        opts=pulumi.ResourceOptions(depends_on=[identities.runner.account]),
    )
    return gcp.bigquery.DatasetIamMember(
        f"dataset-{name}-runner",
        dataset_id=dataset.dataset_id,
        role=f"roles/bigquery.{role}",
        member=identities.runner.member,
    )
