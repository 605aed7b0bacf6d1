"""When the API's answer is the batch's answer."""

import pytest

from runner.commands.cloud import smoke_test
from runner.commands.cloud.api_client import ApiClient
from runner.errors import RunnerError

SAME = ({"0": 0.25, "1": 0.75}, frozenset({"user_activity"}))


@pytest.mark.parametrize(
    ("numbers", "missing", "expected"),
    [
        (
            {"0": 0.26, "1": 0.74},
            {"user_activity"},
            "answers 0: 0.26, 1: 0.74; the batch prediction is 0: 0.25",
        ),
        ({"1": 0.75}, {"user_activity"}, "answers 1: 0.75; the batch prediction"),
        ({"0": None, "1": None}, {"user_activity"}, "answers 0: None"),
        (
            {"0": 0.25, "1": 0.75},
            set(),
            "missing views at .*: none; in the point-in-time join: user_activity",
        ),
    ],
)
def test_another_number_or_another_missing_view_is_a_difference(numbers, missing, expected):
    with pytest.raises(RunnerError, match=expected):
        smoke_test._require_equal((numbers, frozenset(missing)), SAME, "http://127.0.0.1:8000")


def test_seconds_of_elapsed_time_are_none():
    answered = ({"0": 0.25001, "1": 0.74999}, SAME[1])
    smoke_test._require_equal(answered, SAME, "http://127.0.0.1:8000")


def test_what_is_no_address_is_refused():
    with pytest.raises(RunnerError, match="'localhost:8000' is not the address of an API"):
        ApiClient("localhost:8000")
