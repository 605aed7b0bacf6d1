"""Prometheus metrics, counted in plain Python and turned into families when they are scraped.

prometheus_client's own counters take a lock and 1.5 µs each; with twenty features per row that
would cost more than the model. The event loop is one thread, so plain numbers are enough.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from contract.view_layout import PRESENT
from serving.features.materialization import Freshness
from serving.features.online import OnlineRow
from serving.features.overrides import OVERRIDDEN
from serving.features.recent_rows import RecentRows

if TYPE_CHECKING:
    from serving.loaded import Loaded

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_AGE = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
_SHARE = tuple(tenth / 10 for tenth in range(1, 11))
_VALUE = tuple(
    sorted([0.0] + [sign * 10.0**power for power in range(-2, 7) for sign in (-1.0, 1.0)])
)


class Histogram:
    """Counts of observations up to each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def observe_all(self, values: Sequence[float]) -> None:
        """Count each value."""
        bounds, counts = self._bounds, self._counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sum += sum(values)

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add the cumulative counts to a family."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self._sum)


CountedRow = tuple[OnlineRow, OnlineRow, Any, Sequence[float] | None]
"""A predicted row: its features as the online store has them, and with what the request overrides;
its label and probabilities. No label: nothing was answered, since a view had nothing."""


class _ModelMetrics:
    """What is counted for the model that answers now; starts again with another model."""

    def __init__(self, loaded: Loaded) -> None:
        self.name = loaded.name
        self.version = loaded.version.version
        self.features = loaded.bundle.features
        self.rows = 0
        self.absent: list[Counter[str]] = [Counter() for _ in self.features]
        self.overridden = {f.name: 0 for f in self.features if f.overridable}
        self.ages = [(view, Histogram(_AGE)) for view in loaded.online.views]
        self.classes: Counter[int | str] = Counter()
        self.probabilities = [(name, Histogram(_SHARE)) for name in loaded.class_names]
        self.values = Histogram(_VALUE)

    def count(self, rows: Sequence[CountedRow]) -> None:
        """Count rows that were read together."""
        self.rows += len(rows)
        for read, used, _, _ in rows:
            if not read.is_complete:
                self._count_absent(read)
            if used is not read:
                self._count_overrides(used)
        if not rows:
            return
        self._count_ages([row[0] for row in rows])
        answers = [(label, shares) for _, _, label, shares in rows if label is not None]
        if not self.probabilities:
            self.values.observe_all([label for label, _ in answers])
            return
        self.classes.update([label for label, _ in answers])
        by_class = zip(*[shares for _, shares in answers if shares is not None], strict=True)
        for (_, histogram), own in zip(self.probabilities, by_class, strict=False):
            histogram.observe_all(own)

    def _count_ages(self, reads: Sequence[OnlineRow]) -> None:
        """Count how old the rows of each view are; most share their event time with others."""
        read_at = reads[0].read_at
        times_by_view = zip(*[read.times for read in reads], strict=True)
        for (_, histogram), times in zip(self.ages, times_by_view, strict=True):
            for time, rows in Counter(times).items():
                if time is not None:
                    histogram.observe(read_at - time, rows)

    def _count_absent(self, read: OnlineRow) -> None:
        for position, status in enumerate(read.statuses):
            if status is not PRESENT:
                self.absent[position][status] += 1

    def _count_overrides(self, used: OnlineRow) -> None:
        for feature, status in zip(self.features, used.statuses, strict=True):
            if status is OVERRIDDEN:
                self.overridden[feature.name] += 1


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
        self._model: _ModelMetrics | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def serve(self, loaded: Loaded) -> None:
        """Count for another model from now on."""
        self._model = _ModelMetrics(loaded)
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
        yield _counter("serving_redis_failures", "Reads that failed.", self.redis_failures)
        yield _counter("serving_reload_failures", "Bundles refused.", self.reload_failures)
        yield _counters(
            "serving_row_errors", "Rows answered with an error.", "code", self.row_errors
        )
        yield _counters(
            "serving_log_rows",
            "Rows of the serving log: recorded, which Redis has confirmed, and dropped.",
            "outcome",
            self.logged_rows,
        )
        yield from self._shadow_families()
        yield _counters(
            "serving_events",
            "Events: accepted (Redis has confirmed them), rejected, or not recorded by Redis.",
            "outcome",
            self.events,
        )
        yield _counters(
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
        yield _counters(
            "serving_connections_closed",
            "Connections that a limit closed.",
            "reason",
            self.connections_closed,
        )
        if self._model is not None:
            yield from _model_families(self._model)
            yield from _view_families(self._model, self.freshness)
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
        yield _counters(
            "serving_shadow_rows",
            "Rows that the shadow model answered, failed to, or skipped to stay within its share.",
            "outcome",
            self.shadow_rows,
        )


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(name, documentation, value)


def _counters(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> Metric:
    """Return a counter for each value of a label."""
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _model_families(model: _ModelMetrics) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "serving_model_info", "1 for the model that answers.", labels=["name", "version"]
    )
    info.add_metric([model.name, model.version], 1)
    yield info
    yield _counter("serving_rows", "Rows predicted by this model version.", model.rows)
    features = CounterMetricFamily(
        "serving_feature_values",
        "Feature values read, by status: present, null, missing, expired, changed.",
        labels=["feature", "status"],
    )
    for feature, absent in zip(model.features, model.absent, strict=True):
        features.add_metric([feature.name, PRESENT], model.rows - absent.total())
        for status, count in absent.items():
            features.add_metric([feature.name, status], count)
    yield features
    if model.overridden:
        yield _counters(
            "serving_feature_overrides",
            "Feature values that came with the request.",
            "feature",
            model.overridden,
        )
    ages = HistogramMetricFamily(
        "serving_feature_age_seconds", "Age of the feature rows read.", labels=["view"]
    )
    for view, histogram in model.ages:
        histogram.add_to(ages, [view])
    yield ages
    yield from _prediction_families(model)


def _view_families(model: _ModelMetrics, freshness: Freshness) -> Iterator[Metric]:
    ttls = GaugeMetricFamily(
        "serving_view_ttl_seconds", "Age at which feature rows expire.", labels=["view"]
    )
    for view, ttl in {one.projection: one.ttl_seconds for one in model.features}.items():
        if ttl is not None:
            ttls.add_metric([view], ttl)
    yield ttls
    for name, documentation, ages in (
        ("materialized_age", "Since the last complete materialization.", freshness.materialized),
        ("newest_age", "Since the newest event time that was materialized.", freshness.newest),
    ):
        family = GaugeMetricFamily(f"serving_view_{name}_seconds", documentation, labels=["view"])
        for view, _ in model.ages:
            if view in ages:
                family.add_metric([view], ages[view])
        yield family


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


def _prediction_families(model: _ModelMetrics) -> Iterator[Metric]:
    if not model.probabilities:
        values = HistogramMetricFamily("serving_prediction_value", "Predicted values.", labels=[])
        model.values.add_to(values, [])
        yield values
        return
    classes = CounterMetricFamily("serving_predictions", "Predicted classes.", labels=["class"])
    counts = {str(label): count for label, count in model.classes.items()}
    for name, _ in model.probabilities:
        classes.add_metric([name], counts.get(name, 0))
    yield classes
    shares = HistogramMetricFamily(
        "serving_prediction_probability", "Predicted probabilities.", labels=["class"]
    )
    for name, histogram in model.probabilities:
        histogram.add_to(shares, [name])
    yield shares
