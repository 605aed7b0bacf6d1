"""Probabilities of a batch as they are answered: the shortest numbers that are the same float32."""

import numpy as np
import orjson

from contract.predictions import Predictions
from serving.answers import _shares


def test_probabilities_are_written_like_the_models_float32():
    rows = np.random.default_rng(1).random((1_000, 2), dtype=np.float32)
    rows[:2] = [[0, 1], [1e-30, 0.1]]
    predictions = Predictions(rows[:, 0], np.asfortranarray(rows))  # as some models return them
    assert orjson.dumps(_shares(predictions)) == orjson.dumps(
        rows, option=orjson.OPT_SERIALIZE_NUMPY
    )


def test_what_is_not_finite_is_none():
    rows = np.array([[np.nan, 1], [0, np.inf]], dtype=np.float32)
    assert list(_shares(Predictions(rows[:, 0], rows))) == [[None, 1.0], [0.0, None]]


def test_a_regression_has_none():
    assert list(_shares(Predictions(np.zeros(2), None))) == [None, None]
