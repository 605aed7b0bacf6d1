"""The keys of the API, and the configuration of its metrics collector."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import yaml

from cloud.containers import Given
from cloud.iam import Identities
from cloud.secrets import random_text, store_secret

PORT = 8000
COLLECTOR_CONFIG = "/etc/otelcol-google/config.yaml"
_METRICS_KEY = "/secrets/metrics/key"


def collector_config() -> str:
    """Return the collector's configuration; each instance has time series of its own."""
    config = {
        "receivers": {
            "prometheus": {
                "config": {
                    "scrape_configs": [
                        {
                            "job_name": "api",
                            "scrape_interval": "30s",
                            "metrics_path": "/metrics",
                            "authorization": {"credentials_file": _METRICS_KEY},
                            "static_configs": [{"targets": [f"localhost:{PORT}"]}],
                        }
                    ]
                }
            }
        },
        "processors": {
            "resourcedetection": {"detectors": ["gcp"]},
            "transform": {
                "metric_statements": [
                    {
                        "context": "resource",
                        "statements": [
                            'set(attributes["service.instance.id"], attributes["faas.instance"])'
                        ],
                    }
                ]
            },
        },
        "exporters": {"googlemanagedprometheus": {}},
        "service": {
            "pipelines": {
                "metrics": {
                    "receivers": ["prometheus"],
                    "processors": ["resourcedetection", "transform"],
                    "exporters": ["googlemanagedprometheus"],
                }
            }
        },
    }
    return yaml.safe_dump(config, sort_keys=False)


@dataclass(frozen=True)
class ApiSecrets:
    """The API's keys, and which process gets which.

    Attributes
    ----------
    key
        For clients.
    event_key
        For clients that send events and push rows; None: the API takes neither.
    server, collector, smoke_test
        What these processes get: all keys, or one of their own.
    """

    key: pulumi.Output[str]
    event_key: pulumi.Output[str] | None
    server: Given
    collector: Given
    smoke_test: Given


def create_api_secrets(identities: Identities, *, events: bool) -> ApiSecrets:
    """Return a key for clients, one for the collector of metrics and one for smoke tests.

    Parameters
    ----------
    events
        Whether there is a key for events, too.
    """
    api = identities.api
    key, metrics_key = random_text("api-key"), random_text("metrics-key")
    smoke_key = random_text("smoke-test-key")
    every = pulumi.Output.format("{0},{1},{2}", key, metrics_key, smoke_key)
    server = Given(secrets={"SERVING_API_KEYS": store_secret("api-keys", every, [api])})
    event_key = random_text("event-key") if events else None
    if event_key is not None:
        server |= Given(
            secrets={"SERVING_EVENT_KEYS": store_secret("event-keys", event_key, [api])}
        )
    collector = Given(
        files={
            COLLECTOR_CONFIG: store_secret("collector", collector_config(), [api]),
            _METRICS_KEY: store_secret("metrics-key", metrics_key, [api]),
        }
    )
    tester = store_secret("smoke-test-key", smoke_key, [identities.runner])
    return ApiSecrets(
        key, event_key, server, collector, Given(secrets={"SERVING_API_KEYS": tester})
    )
