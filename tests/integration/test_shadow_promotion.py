"""Days as a shadow before a promotion, and both versions on the labels of the same requests."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from runner.commands.models.model_comparison import compare
from runner.commands.models.promotion import promote
from runner.errors import RunnerError
from runner.modelling.contender import Comparison
from runner.monitoring.shadow_days import ShadowDays
from runner.records import registry
from tests.answered_rows import write
from tests.modelling import feature_table, make_recipe
from tests.served_month import LOGGED, START, Month
from tests.trainings import changed, train

pytestmark = pytest.mark.servers
DAYS = 3


@pytest.fixture(scope="module", name="month")
def _month(tmp_path_factory: pytest.TempPathFactory, module_database: Any) -> Month:
    """A champion, and versions 2 and 3 whose recipe demands three days as a shadow."""
    month = Month(tmp_path_factory.mktemp("month"), module_database, days=1)
    training = train(month.folder, make_recipe(month.folder / "s.yaml", more="min_shadow_days: 3"))
    prepared = dataclasses.replace(
        training.prepared, settings=month.settings, started_at=START - timedelta(days=1)
    )
    for _ in range(2):
        month.register(dataclasses.replace(training, prepared=prepared))
    registry.connect(month.settings).set_registered_model_alias("m", "challenger", "2")
    return month


def answer(month: Month, day: int) -> None:
    """Let version 1 answer on a day, and version 2, which knows the labels, beside it."""
    at = START + timedelta(days=day)
    rows = month.rows(feature_table(80, seed=day), at)
    write(month.settings, rows)
    month.add_outcomes(rows, seed=day)
    run = registry.connect(month.settings).get_model_version("m", "2").run_id
    same = {"model_version": "2", "answered_as": "shadow", "run_id": run}
    labels = month.sql.execute(
        "select y from outcome.outcome_y where event_timestamp >= %s order by event_timestamp", [at]
    ).fetchall()
    shadows = []
    for number, ([y], row) in enumerate(zip(labels, rows, strict=True)):
        known = dict(zip(LOGGED, row, strict=True)) | same
        known["served_at"] += timedelta(seconds=1)
        known["server_row"] += 10**6 + number
        known["probabilities"] = json.dumps({"0": 1 - y, "1": y})
        shadows.append(list(known.values()))
    write(month.settings, shadows)


def test_a_version_becomes_the_champion_after_as_many_days_as_its_recipe_demands(
    month: Month, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunnerError) as none:
        promote(month.settings, "m", None)
    assert none.value.message == (
        "m version 2 has not answered as a shadow yet; its recipe's min_shadow_days is 3"
    )
    assert "SERVING_SHADOW=models:/m/2" in none.value.hint
    month.sql.execute("alter table raw_data.predictions rename to not_collected_yet")
    with pytest.raises(RunnerError, match="m version 2 has not answered as a shadow yet"):
        promote(month.settings, "m", None)
    month.sql.execute("alter table raw_data.not_collected_yet rename to predictions")
    for day in (5, 6):
        answer(month, day)
    with pytest.raises(RunnerError) as few:
        promote(month.settings, "m", "2")
    today = datetime.now(UTC).date()
    assert few.value.message in {
        "m version 2 has answered as a shadow on 2 of 3 days (160 rows); it can reach 3 on "
        f"{each} at the earliest (min_shadow_days)"
        for each in (today, today - timedelta(days=1))
    }
    assert "--accept-shadow-days REASON" in few.value.hint
    answer(month, 7)
    capsys.readouterr()
    assert promote(month.settings, "m", "2") == ("2", "1")
    said = " ".join(capsys.readouterr().err.split())
    assert "and 1.0000 for its shadow, version 2: +0." in said
    assert "on the same 240 labelled rows" in said
    promote(month.settings, "m", "1")
    promote(month.settings, "m", "2")  # it was the champion
    promote(month.settings, "m", "1")


def test_a_reason_in_place_of_the_days_is_recorded(month: Month) -> None:
    client = registry.connect(month.settings)
    with pytest.raises(RunnerError, match="m version 3 has not answered"):
        promote(month.settings, "m", "3")
    promote(month.settings, "m", "3", accepted_days="the champion is down")
    assert client.get_model_version("m", "3").tags["accepted_shadow_days"] == "the champion is down"
    promote(month.settings, "m", "1")


@pytest.mark.parametrize("turned", [False, True])
def test_a_comparison_shows_both_on_live_labels(month: Month, *, turned: bool) -> None:
    shadows = "select 1 from raw_data.predictions where answered_as = 'shadow'"
    if not month.sql.execute(shadows).fetchall():  # this test alone
        answer(month, 5)
    pair = ("m/2", "m/1") if turned else ("m/1", "m/2")
    rows = {row.name: row for row in compare(month.settings, *pair) if row.group == "live"}
    score = rows["live_roc_auc"]
    old, new = (score.b, score.a) if turned else (score.a, score.b)
    assert 0.5 < old < new == 1.0
    difference = rows["live_roc_auc difference"]
    shown = difference.a if turned else difference.b
    assert shown.startswith(f"{new - old:+.4f} (95% CI +")
    assert [row for row in compare(month.settings, "m/1", "m/3") if row.group == "live"] == []


def test_training_leaves_the_alias_while_days_are_due(month: Month) -> None:
    recipe = make_recipe(month.folder / "t.yaml", more="min_shadow_days: 3")
    training = train(month.folder, recipe)
    better = Comparison("1", verdict="better")
    assert changed(training, comparison=better).refusals == (
        "it must answer as a shadow on 3 days first (min_shadow_days)",
    )
    worse = Comparison("1", "worse by more than noise", verdict="worse")
    assert changed(training, comparison=worse).refusals == ("worse by more than noise",)
    assert changed(training, comparison=Comparison("1", is_retired=True)).refusals == ()
    assert changed(training, comparison=Comparison("")).refusals == ()


@pytest.mark.parametrize(("last", "due"), [(8, 10), (7, 9), (None, 11)])
def test_the_day_on_which_the_last_can_be(last: int | None, due: int) -> None:
    found = ShadowDays(2 if last else 0, 9, date(2026, 3, last) if last else None)
    assert found.due(4, date(2026, 3, 8)) == date(2026, 3, due)
