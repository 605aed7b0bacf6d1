"""When the features of recent rows say that the online store is empty or stale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.features.online_row import OnlineRow
from serving.features.recent_rows import RecentRows


def _row(*statuses: str) -> OnlineRow:
    values = [1.0 if status == "present" else None for status in statuses]
    return OnlineRow(values, statuses, 0.0, [])


def _noted(row: OnlineRow, count: int, recent: RecentRows | None = None) -> RecentRows:
    recent = recent or RecentRows()
    for _ in range(count):
        recent.note(row)
    return recent


@pytest.mark.parametrize(
    ("statuses", "stale"),
    [
        (("missing", "expired", "present"), True),
        (("missing", "present"), False),
        (("null", "null", "missing"), False),
        (("overridden", "overridden", "missing"), False),
    ],
)
def test_most_features_must_be_missing_or_expired(statuses: tuple[str, ...], stale: bool) -> None:
    assert _noted(_row(*statuses), 10).stale is stale


def test_a_few_rows_say_nothing() -> None:
    assert not _noted(_row("missing"), 9).stale


def test_only_the_last_hundred_rows_count() -> None:
    recent = _noted(_row("missing"), 300)
    assert (recent.stale, recent.absent_share, recent.keeps_away) == (True, 1.0, True)
    assert _noted(_row("present"), 54, recent).stale
    assert not _noted(_row("present"), 2, recent).stale
    assert not recent.keeps_away


@given(
    st.integers(0, 120),
    st.lists(st.lists(st.sampled_from(["present", "present", "null", "missing"]), max_size=60)),
)
def test_rows_noted_together_are_those_noted_one_by_one(
    before: int, batches: list[list[str]]
) -> None:
    together, one_by_one = _noted(_row("present"), before), _noted(_row("present"), before)
    for statuses in batches:
        rows = [_row(status) for status in statuses]
        for row in rows:
            row.is_complete = row.statuses[0] == "present"
            one_by_one.note(row)
        together.note_all(rows)
        assert together.absent_share == one_by_one.absent_share
        assert together.stale == one_by_one.stale


def test_no_row_is_no_share() -> None:
    assert RecentRows().absent_share == 0.0
