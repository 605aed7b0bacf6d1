"""The Google Cloud project: the services it uses, and what it may cost."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_gcp as gcp

from cloud.settings import Settings

SERVICES = (
    "artifactregistry",
    "bigquery",
    "bigquerystorage",
    "billingbudgets",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "iam",
    "logging",
    "monitoring",
    "redis",
    "run",
    "secretmanager",
    "sqladmin",
    "storage",
)


def enable_services() -> list[gcp.projects.Service]:
    """Return the project's services, switched on; `pulumi destroy` leaves them on."""
    return [
        gcp.projects.Service(
            f"service-{name}", service=f"{name}.googleapis.com", disable_on_destroy=False
        )
        for name in SERVICES
    ]


def number_of(project: str, after: Sequence[pulumi.Resource]) -> pulumi.Output[str]:
    """Return the project's number, which Cloud Run's addresses hold."""
    return gcp.organizations.get_project_output(
        project_id=project, opts=pulumi.InvokeOutputOptions(depends_on=after)
    ).number


def set_budget(settings: Settings, number: pulumi.Output[str]) -> None:
    """Mail the billing account's owners at half, nine tenths and all of the month's budget."""
    if settings.budget is None:
        return
    gcp.billing.Budget(
        "budget",
        billing_account=settings.budget.billing_account,
        display_name=f"{settings.project} a month",
        amount=gcp.billing.BudgetAmountArgs(
            specified_amount=gcp.billing.BudgetAmountSpecifiedAmountArgs(
                currency_code="USD", units=str(settings.budget.usd)
            )
        ),
        budget_filter=gcp.billing.BudgetBudgetFilterArgs(
            projects=[number.apply(lambda value: f"projects/{value}")]
        ),
        threshold_rules=[
            gcp.billing.BudgetThresholdRuleArgs(threshold_percent=share)
            for share in (0.5, 0.9, 1.0)
        ],
    )
