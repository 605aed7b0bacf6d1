"""Drift: bins, distance and test against scipy on the raw values, and the rate of false alarms."""

from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, entropy

from contract.bundle_reader import read_bundle
from contract.predictions import Predictions
from runner.monitoring.bins import CategoryBins, NumberBins, bins_of
from runner.monitoring.drift import (
    FALSE_ALARM_RATE,
    MIN_ENTITIES,
    Sample,
    adjusted,
    distance,
    effective_size,
    p_value,
)
from runner.monitoring.monitored import monitored_columns
from tests.quiet_months import alarms
from tests.serving_bundles import write_linear_bundle

NUMBERS = st.lists(
    st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6)), min_size=1
)


def column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind or pa.float64())])


def histogram(bins, values, effective=None):
    counts = np.bincount(bins.numbers(values), minlength=len(bins.labels)).astype(float)
    return Sample(counts, len(values) if effective is None else effective)


@given(NUMBERS)
def test_the_bins_of_training_rows_hold_all_of_them_and_none_is_beyond(values):
    bins = bins_of(column(values), "float64")
    found = bins.numbers(column(values))
    assert list(found == 0) == [value is None for value in values]
    assert found.max(initial=0) <= len(bins.edges)
    known = [value for value in values if value is not None]
    if known:
        beyond = bins.numbers(column([min(known) - 1, max(known) + 1]))
        assert list(beyond) == [1, len(bins.labels) - 1]


@given(NUMBERS, NUMBERS)
def test_a_bin_is_found_by_comparison(trained, served):
    bins = bins_of(column(trained), "float64")
    expected = [
        0 if value is None else 1 + sum(edge <= value for edge in bins.edges) for value in served
    ]
    assert list(bins.numbers(column(served))) == expected


def test_a_value_of_more_than_a_tenth_of_the_rows_has_a_bin_of_its_own():
    values = [0.0] * 500 + list(np.linspace(1, 100, 500))
    bins = bins_of(column(values), "float64")
    assert histogram(bins, column(values)).counts[2] == 500
    few = bins_of(column([1, 1, 2, 5], pa.int64()), "int64")
    assert few == NumberBins((1.0, 2.0, 5.0, np.nextafter(5.0, np.inf)))


def test_categories_are_the_most_frequent_texts_and_flags():
    texts = column(["b", "a", "a", None, *map(str, range(30))], pa.string())
    bins = bins_of(texts, "string")
    assert (bins.names[0], len(bins.names)) == ("a", 20)
    assert list(bins.numbers(column([None, "a", "new"], pa.string()))) == [0, 1, 21]
    assert bins_of(column([True, False, True], pa.bool_()), "bool") == CategoryBins(
        ("true", "false")
    )


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(sum), st.integers(1, 9))
def test_the_distance_is_that_of_the_definition_and_grows_from_0_to_1(counts, factor):
    counts = np.array(counts, float)
    other = Sample(np.array([3.0, 1.0, 0.0]), 4)
    one = Sample(counts, counts.sum())
    mean = (one.shares + other.shares) / 2
    expected = entropy(mean, base=2) - sum(entropy(h.shares, base=2) for h in (one, other)) / 2
    assert distance(one, other) == pytest.approx(np.sqrt(max(0, expected)), abs=1e-7)
    assert distance(one, Sample(counts * factor, 1)) == pytest.approx(0, abs=1e-7)
    assert distance(Sample(np.array([1.0, 0]), 1), Sample(np.array([0, 1.0]), 1)) == 1


def test_the_p_value_is_close_to_pearsons_on_the_raw_values():
    random = np.random.default_rng(0)
    trained, served = random.normal(size=5_000), random.normal(0.05, size=5_000)
    bins = bins_of(column(trained), "float64")
    whole = [histogram(bins, column(values)) for values in (trained, served)]
    inner = [each.counts[2:-1] for each in whole]  # nobody is expected beyond training's values
    raw = chi2_contingency(inner).pvalue
    assert raw / 2 < p_value(*whole) / 2 < 2 * raw


def test_rows_of_few_entities_are_worth_few():
    assert effective_size(np.ones(70)) == 70
    assert effective_size(np.array([1e9, 1.0])) == pytest.approx(1)
    assert effective_size(np.array([])) == 0
    reference = Sample(np.array([500.0, 500.0]), 1_000)
    served = np.array([900.0, 100.0])
    assert p_value(reference, Sample(served, MIN_ENTITIES - 1)) is None
    few, many = (p_value(reference, Sample(served, size)) for size in (MIN_ENTITIES, 1_000))
    assert many < few < FALSE_ALARM_RATE


def test_a_constant_that_changes_and_nulls_where_none_were_are_seen():
    constant = bins_of(column([7.0] * 1_000), "float64")
    reference = histogram(constant, column([7.0] * 1_000))
    same, other = (histogram(constant, column([value] * 60)) for value in (7.0, 7_000.0))
    assert (p_value(reference, same), distance(reference, same)) == (1, 0)
    assert p_value(reference, other) < 1e-6
    assert distance(reference, other) == pytest.approx(1)
    nulls = histogram(constant, column([7.0] * 180 + [None] * 20))
    assert p_value(reference, nulls) < 1e-3


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_the_correction_is_holms(p_values):
    known = [p for p in p_values if p is not None]
    for p, corrected in zip(p_values, adjusted(p_values), strict=True):
        if p is None:
            assert corrected is None
            continue
        ranks = sorted(known)
        steps = [min(1, q * (len(known) - i)) for i, q in enumerate(ranks) if q <= p]
        assert corrected == max(steps[: ranks.index(p) + 1])


@pytest.mark.parametrize(("days", "height"), [(6, 0), (7, 2)])
def test_quiet_months_raise_no_more_alarms_than_stated(days, height):
    # Of 50 months, 4 or more would have one by chance once in 600 such tests.
    assert alarms(50, 4, days, height) < 4


def test_the_same_probabilities_have_the_same_bins_in_training_rows_and_in_the_log(tmp_path):
    bundle = read_bundle(tmp_path / "b", write_linear_bundle(tmp_path / "b"))
    shares = np.repeat(np.array([0.1, 0.2, 0.7, 0.8], np.float32), 25)
    answers = Predictions(np.ones(100, np.int64), np.column_stack([1 - shares, shares]))
    rows = pa.table({"user_id": range(100), "category_id": ["x"] * 100})
    bundle = replace(bundle, features=(), request=())
    [column] = monitored_columns(bundle, rows, rows, answers)
    logged = orjson.loads(orjson.dumps(list(shares), option=orjson.OPT_SERIALIZE_NUMPY))
    served = histogram(column.bins, pa.chunked_array([pa.array(logged, pa.float64())]))
    assert distance(column.reference, served) == 0
