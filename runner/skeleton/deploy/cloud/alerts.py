"""Alert policies from the rules in `monitoring/alerts.yml`, and the dashboard beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_gcp as gcp
import yaml

from cloud.dashboard import cloud_monitoring, read_panels
from cloud.settings import Settings, project_root

_UNITS = {"s": 1, "m": 60, "h": 3600}
_SEVERITY = {"critical": "CRITICAL", "warning": "WARNING"}
_NOT_STARTED = 'resource.type = "cloud_scheduler_job" AND severity >= ERROR'


@dataclass(frozen=True)
class Rule:
    """An alerting rule of Prometheus."""

    group: str
    name: str
    query: str
    seconds: int
    severity: str
    text: str


def read_rules(path: Path) -> Iterator[Rule]:
    """Yield the rules of a file of Prometheus."""
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            held = rule.get("for", "0s")
            yield Rule(
                group=group["name"],
                name=rule["alert"],
                query=rule["expr"],
                seconds=int(held[:-1]) * _UNITS[held[-1]],
                severity=_SEVERITY[rule["labels"]["severity"]],
                text="{summary}\n\n{action}".format(**rule["annotations"]),
            )


def create_alerts(settings: Settings, after: Sequence[pulumi.Resource]) -> None:
    """Declare a policy for each rule, one for schedules that start nothing, and the dashboard."""
    monitoring = project_root() / "monitoring"
    channel = gcp.monitoring.NotificationChannel(
        "alert-email",
        display_name="Alerts of the ML pipeline",
        type="email",
        labels={"email_address": settings.alert_email},
        opts=pulumi.ResourceOptions(depends_on=after),
    )
    for rule in read_rules(monitoring / "alerts.yml"):
        _policy(rule, channel)
    _schedule_policy(channel)
    panels = read_panels(monitoring / "dashboard.yml")
    gcp.monitoring.Dashboard(
        "dashboard",
        dashboard_json=json.dumps(cloud_monitoring(panels)),
        opts=pulumi.ResourceOptions(depends_on=after),
    )


def _policy(rule: Rule, channel: gcp.monitoring.NotificationChannel) -> None:
    gcp.monitoring.AlertPolicy(
        f"alert-{rule.name}",
        display_name=rule.name,
        combiner="OR",
        severity=rule.severity,
        notification_channels=[channel.name],
        documentation=_text(rule.text),
        conditions=[
            gcp.monitoring.AlertPolicyConditionArgs(
                display_name=rule.name,
                condition_prometheus_query_language=gcp.monitoring.AlertPolicyConditionConditionPrometheusQueryLanguageArgs(
                    query=rule.query,
                    duration=f"{rule.seconds}s",
                    evaluation_interval="60s",
                    alert_rule=rule.name,
                    rule_group=rule.group,
                    # Before the first request there is no such metric, which Google would refuse.
                    disable_metric_validation=True,
                ),
            )
        ],
    )


def _schedule_policy(channel: gcp.monitoring.NotificationChannel) -> None:
    """Declare the alert for a job that was not started, which only leaves a line in a log."""
    gcp.monitoring.AlertPolicy(
        "alert-ScheduleFailed",
        display_name="ScheduleFailed",
        combiner="OR",
        severity="CRITICAL",
        notification_channels=[channel.name],
        documentation=_text(
            "Cloud Scheduler could not start a job.\n\nLook at the schedule's log."
        ),
        alert_strategy=gcp.monitoring.AlertPolicyAlertStrategyArgs(
            notification_rate_limit=gcp.monitoring.AlertPolicyAlertStrategyNotificationRateLimitArgs(
                period="3600s"
            ),
            auto_close="86400s",
        ),
        conditions=[
            gcp.monitoring.AlertPolicyConditionArgs(
                display_name="ScheduleFailed",
                condition_matched_log=gcp.monitoring.AlertPolicyConditionConditionMatchedLogArgs(
                    filter=_NOT_STARTED
                ),
            )
        ],
    )


def _text(text: str) -> gcp.monitoring.AlertPolicyDocumentationArgs:
    return gcp.monitoring.AlertPolicyDocumentationArgs(content=text, mime_type="text/markdown")
