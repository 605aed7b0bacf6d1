"""Prometheus metrics, counted in plain Python and turned into families when they are scraped.

prometheus_client's own counters take a lock and 1.5 µs each; with twenty features per row that
would cost more than the model. The event loop is one thread, so plain numbers are enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from serving.features.materialization import Freshness
from serving.features.recent_rows import RecentRows
from serving.loaded import Loaded
from serving.metric_families import Histogram, counter, counters
from serving.model_metrics import CountedRow, ModelMetrics, model_families, view_families

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Everything `/metrics` shows."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], Histogram] = {}
        self.redis = Histogram(_LATENCY)
        self.redis_failures = 0
        self.reload_failures = 0
        self.row_errors: Counter[str] = Counter()
        self.logged_rows = {"recorded": 0, "dropped": 0}
        self.shadow_rows = {"answered": 0, "failed": 0, "skipped": 0}
        self.shadow_model: tuple[str, str] | None = None
        """Name and version of the shadow, as of the scrape under way."""
        self.events = {"accepted": 0, "rejected": 0, "not_recorded": 0}
        self.pushed_rows = {"accepted": 0, "older": 0, "rejected": 0, "not_recorded": 0}
        self.in_flight = 0
        self.buffered_bytes = 0
        self.connections = 0
        self.connections_closed: Counter[str] = Counter()
        self.recent = RecentRows()
        self.changed_features = 0
        self.freshness = Freshness()
        """As of the scrape under way."""
        self._model: ModelMetrics | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def serve(self, loaded: Loaded) -> None:
        """Count for another model from now on."""
        self._model = ModelMetrics(loaded)
        self.recent = RecentRows()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        histogram = self.requests.get((route, status))
        if histogram is None:
            histogram = self.requests[route, status] = Histogram(_LATENCY)
        histogram.observe(seconds)

    def predicted(self, loaded: Loaded, rows: Sequence[CountedRow]) -> None:
        """Count predicted rows; those of a model that was just replaced are not counted."""
        model = self._model
        if model is None or model.version != loaded.version.version:
            return
        model.count(rows)
        self.recent.note_all([used for _, used, _, _ in rows])

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing: names are known only when a model is loaded."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (called by prometheus_client)."""
        requests = HistogramMetricFamily(
            "serving_request_seconds",
            "Time to answer a request.",
            labels=["route", "status"],
        )
        for (route, status), histogram in self.requests.items():
            histogram.add_to(requests, [route, str(status)])
        yield requests
        redis = HistogramMetricFamily(
            "serving_redis_seconds", "Time to read features from the online store.", labels=[]
        )
        self.redis.add_to(redis, [])
        yield redis
        yield counter("serving_redis_failures", "Reads that failed.", self.redis_failures)
        yield counter("serving_reload_failures", "Bundles refused.", self.reload_failures)
        yield counters(
            "serving_row_errors", "Rows answered with an error.", "code", self.row_errors
        )
        yield counters(
            "serving_log_rows",
            "Rows of the serving log: recorded, which Redis has confirmed, and dropped.",
            "outcome",
            self.logged_rows,
        )
        yield from self._shadow_families()
        yield counters(
            "serving_events",
            "Events: accepted (Redis has confirmed them), rejected, or not recorded by Redis.",
            "outcome",
            self.events,
        )
        yield counters(
            "serving_pushed_rows",
            "Pushed rows: accepted (of these, older: those older than the value in the online "
            "store), rejected, or not recorded by Redis.",
            "outcome",
            self.pushed_rows,
        )
        yield GaugeMetricFamily(
            "serving_recent_absent_share",
            "Share of features missing or expired in the last 100 rows.",
            self.recent.absent_share,
        )
        yield GaugeMetricFamily(
            "serving_changed_features",
            "Features whose values are of another definition than the model was trained on.",
            self.changed_features,
        )
        yield GaugeMetricFamily("serving_in_flight", "Predictions under way.", self.in_flight)
        yield GaugeMetricFamily("serving_connections", "Open connections.", self.connections)
        yield GaugeMetricFamily(
            "serving_buffered_bytes", "Bodies that wait and answers not read.", self.buffered_bytes
        )
        yield counters(
            "serving_connections_closed",
            "Connections that a limit closed.",
            "reason",
            self.connections_closed,
        )
        if self._model is not None:
            yield from model_families(self._model)
            yield from view_families(self._model, self.freshness)
            yield from _refresh_families(self.freshness)

    def _shadow_families(self) -> Iterator[Metric]:
        if self.shadow_model is None:
            return
        info = GaugeMetricFamily(
            "serving_shadow_info",
            "1 for the model that answers only for the log.",
            labels=["name", "version"],
        )
        info.add_metric(self.shadow_model, 1)
        yield info
        yield counters(
            "serving_shadow_rows",
            "Rows that the shadow model answered, failed to, or skipped to stay within its share.",
            "outcome",
            self.shadow_rows,
        )


def _refresh_families(freshness: Freshness) -> Iterator[Metric]:
    if freshness.refreshed is not None:
        yield GaugeMetricFamily(
            "serving_refresh_age_seconds",
            "Since the last successful round of `runner refresh`.",
            freshness.refreshed,
        )
    if freshness.refreshed is not None or freshness.is_failing:
        yield GaugeMetricFamily(
            "serving_refresh_failing",
            "1 if the last round of `runner refresh` failed.",
            float(freshness.is_failing),
        )
