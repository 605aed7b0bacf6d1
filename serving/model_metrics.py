"""What is counted of one model's predictions: its features, their ages, its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from contract.view_layout import PRESENT
from serving.features.materialization import Freshness
from serving.features.online_row import OnlineRow
from serving.features.overrides import OVERRIDDEN
from serving.loaded import Loaded
from serving.metric_families import Histogram, counter, counters

_AGE = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
_SHARE = tuple(tenth / 10 for tenth in range(1, 11))
_VALUE = tuple(
    sorted([0.0] + [sign * 10.0**power for power in range(-2, 7) for sign in (-1.0, 1.0)])
)

CountedRow = tuple[OnlineRow, OnlineRow, Any, Sequence[float] | None]
"""A predicted row: its features as the online store has them, and with what the request overrides;
its label and probabilities. No label: nothing was answered, since a view had nothing."""


class ModelMetrics:
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
        if not rows:
            return
        self._count_absent([row[0] for row in rows])
        for read, used, _, _ in rows:
            if used is not read:
                self._count_overrides(used)
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

    def _count_absent(self, reads: Sequence[OnlineRow]) -> None:
        """Count what is absent; rows that lack something often lack the same."""
        incomplete = Counter([tuple(read.statuses) for read in reads if not read.is_complete])
        for statuses, rows in incomplete.items():
            for absent, status in zip(self.absent, statuses, strict=True):
                if status is not PRESENT:
                    absent[status] += rows

    def _count_overrides(self, used: OnlineRow) -> None:
        for feature, status in zip(self.features, used.statuses, strict=True):
            if status is OVERRIDDEN:
                self.overridden[feature.name] += 1


def model_families(model: ModelMetrics) -> Iterator[Metric]:
    """Yield what was counted."""
    info = GaugeMetricFamily(
        "serving_model_info", "1 for the model that answers.", labels=["name", "version"]
    )
    info.add_metric([model.name, model.version], 1)
    yield info
    yield counter("serving_rows", "Rows predicted by this model version.", model.rows)
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
        yield counters(
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


def view_families(model: ModelMetrics, freshness: Freshness) -> Iterator[Metric]:
    """Yield the ttl of each view, and how fresh its values are."""
    ttls = GaugeMetricFamily(
        "serving_view_ttl_seconds", "Age at which feature rows expire.", labels=["view"]
    )
    for view, ttl in {one.projection: one.ttl_seconds for one in model.features}.items():
        if ttl is not None:
            ttls.add_metric([view], ttl)
    yield ttls
    for name, documentation, ages in (
        ("materialized_age", "Since the last complete materialization.", freshness.materialized),
        ("compared_age", "Since every entity was compared with its mart.", freshness.compared),
        ("newest_age", "Since the newest event time that was materialized.", freshness.newest),
    ):
        family = GaugeMetricFamily(f"serving_view_{name}_seconds", documentation, labels=["view"])
        for view, _ in model.ages:
            if view in ages:
                family.add_metric([view], ages[view])
        yield family


def _prediction_families(model: ModelMetrics) -> Iterator[Metric]:
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
