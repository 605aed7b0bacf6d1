"""The dashboard in the words of Grafana and of Cloud Monitoring, from one description.

`python -m cloud.dashboard` in deploy/ writes `monitoring/grafana.json` again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cloud.settings import project_root

_GRAFANA_UNITS = {"s": "s", "share": "percentunit", "count": "short"}
_CLOUD_UNITS = {"s": "s", "share": "10^2.%", "count": "1"}
_COLUMNS = 2


@dataclass(frozen=True)
class Panel:
    """A chart: its lines by legend, as PromQL."""

    title: str
    unit: str
    queries: dict[str, str]


@dataclass(frozen=True)
class Panels:
    """A dashboard."""

    title: str
    panels: Sequence[Panel]


def read_panels(path: Path) -> Panels:
    """Return the description in a file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Panels(content["title"], [Panel(**panel) for panel in content["panels"]])


def grafana(dashboard: Panels) -> dict[str, Any]:
    """Return it as Grafana imports it; the data source is asked for."""
    width, height = 24 // _COLUMNS, 8
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": panel.title,
            "datasource": source,
            "gridPos": {
                "h": height,
                "w": width,
                "x": number % _COLUMNS * width,
                "y": number // _COLUMNS * height,
            },
            "fieldConfig": {
                "defaults": {"unit": _GRAFANA_UNITS[panel.unit], "min": 0},
                "overrides": [],
            },
            "targets": [
                {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend}
                for at, (legend, query) in enumerate(panel.queries.items())
            ],
        }
        for number, panel in enumerate(dashboard.panels)
    ]
    return {
        "__inputs": [
            {
                "name": "DS_PROMETHEUS",
                "label": "Prometheus",
                "type": "datasource",
                "pluginId": "prometheus",
            }
        ],
        "title": dashboard.title,
        "uid": dashboard.title.lower(),
        "schemaVersion": 39,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "panels": panels,
    }


def cloud_monitoring(dashboard: Panels) -> dict[str, Any]:
    """Return it as Cloud Monitoring takes it."""
    width, height = 48 // _COLUMNS, 16
    tiles = [
        {
            "xPos": number % _COLUMNS * width,
            "yPos": number // _COLUMNS * height,
            "width": width,
            "height": height,
            "widget": {
                "title": panel.title,
                "xyChart": {
                    "dataSets": [
                        {
                            "plotType": "LINE",
                            "legendTemplate": legend.replace("{{", "${metric.labels.").replace(
                                "}}", "}"
                            ),
                            "timeSeriesQuery": {
                                "prometheusQuery": query,
                                "unitOverride": _CLOUD_UNITS[panel.unit],
                            },
                        }
                        for legend, query in panel.queries.items()
                    ]
                },
            },
        }
        for number, panel in enumerate(dashboard.panels)
    ]
    return {
        "displayName": dashboard.title,
        "mosaicLayout": {"columns": 48, "tiles": tiles},
    }


if __name__ == "__main__":
    folder = project_root() / "monitoring"
    text = json.dumps(grafana(read_panels(folder / "dashboard.yml")), indent=2) + "\n"
    (folder / "grafana.json").write_text(text, encoding="utf-8")
