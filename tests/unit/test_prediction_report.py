"""What `runner predict` prints."""

from pathlib import Path

import pytest

from runner.commands.predictions.prediction import Written, show_predictions
from runner.commands.predictions.prediction_output import OutputFile


def test_views_that_lack_the_same_number_of_rows_are_named_together(capsys: pytest.CaptureFixture):
    show_predictions(Written("m version 1", 3, {"a": 1, "b": 1, "c": 2}), OutputFile(Path("p.csv")))
    printed = capsys.readouterr()
    assert printed.out == "3 predictions of m version 1 in p.csv\n"
    told = " ".join(printed.err.split())
    assert "1 of 3 rows: nothing in a, b; 2 of 3 rows: nothing in c (unknown entities" in told


def test_one_row_is_one_prediction(capsys: pytest.CaptureFixture):
    show_predictions(Written("m version 1", 1, {}), OutputFile(Path("p.csv")))
    assert capsys.readouterr().out == "1 prediction of m version 1 in p.csv\n"
