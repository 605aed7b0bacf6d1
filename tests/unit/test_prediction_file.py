"""A key that does not fit is told by its file, column, row, value and the type that is needed."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.bundle import BundleRequestInput
from contract.bundle_reader import read_bundle
from runner.commands.online.online_frame import _refuse_taken
from runner.commands.predictions.prediction_file import read_entities
from runner.commands.predictions.prediction_output import OutputFile, OutputTable
from runner.errors import RunnerError
from tests.serving_bundles import write_linear_bundle


@pytest.fixture
def bundle(tmp_path):
    """Its keys are user_id, an int64, and category_id, a string."""
    folder = tmp_path / "bundle"
    return read_bundle(folder, write_linear_bundle(folder))


def told(bundle, path):
    with pytest.raises(RunnerError) as refused:
        read_entities(bundle, path)
    assert refused.value.hint == "entity keys of this model: user_id int64, category_id string"
    return refused.value.message


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["1", "2", "two"], " in row 3: expected int64, got 'two'"),
        (["x", "2", "3"], " in row 1: expected int64, got 'x'"),
        (["1", "1.5", "x"], " in row 2: expected int64, got '1.5'"),
        ([1.0, 2.0, 2.5], " in row 3: expected int64, got 2.5"),
        ([[1], [2], [3]], ": expected int64, got list<"),
    ],
)
def test_a_key_of_another_type_in_a_parquet_file_is_told(bundle, tmp_path, values, problem):
    path = tmp_path / "keys.parquet"
    pq.write_table(pa.table({"category_id": ["a", "b", "c"], "user_id": values}), path)
    assert told(bundle, path).startswith(f"{path}: user_id{problem}")


def test_a_key_of_another_type_in_a_csv_file_is_told(bundle, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("category_id,user_id\n7,1\n7, 2 \n7,two\n7,three\n")
    assert told(bundle, path) == f"{path}: user_id in row 3: expected int64, got 'two'"


def test_a_csv_file_with_another_separator_is_told(bundle, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("category_id;user_id\n7;1\n")
    with pytest.raises(RunnerError) as refused:
        read_entities(bundle, path)
    assert refused.value.message == f"{path}: has one column, 'category_id;user_id'"
    assert refused.value.hint == "separate columns by commas, not by ';'"


@pytest.mark.parametrize(("row", "cells"), [("7,1,2", 3), ("7", 1)])
def test_a_row_with_more_or_fewer_cells_is_told_by_its_line(bundle, tmp_path, row, cells):
    path = tmp_path / "keys.csv"
    path.write_text(f'category_id,user_id\n"a\nb",1\n\n{row}\n7,2\n')
    with pytest.raises(RunnerError) as refused:
        read_entities(bundle, path)
    assert refused.value.message == f"{path}:5: expected 2 columns, got {cells}"


def test_keys_have_the_types_of_the_model(bundle, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("category_id,user_id,n\n007, 2 ,1.5\n")
    rows = read_entities(bundle, path).drop(columns="event_timestamp")
    assert rows.to_dict("records") == [{"category_id": "007", "user_id": 2, "n": 1.5}]


def test_line_breaks_in_the_cells_of_a_large_csv_file_end_no_row(bundle, tmp_path):
    """Of more than a megabyte, which Arrow reads at once; it took the rest of a cell for a row."""
    path = tmp_path / "keys.csv"
    rest = f", {'y' * 40}"
    cells = [f'{n},{n},"{"x" * 20}\n{n}{rest}"\n' for n in range(20_000)]
    path.write_text("category_id,user_id,note\n" + "".join(cells))
    rows = read_entities(bundle, path)
    assert list(rows.user_id) == list(range(20_000))
    assert all(rows.note.str.endswith(rest))


_HEAD = "category_id,user_id,event_timestamp\n"


@pytest.mark.parametrize(
    ("times", "zone", "expected"),
    [
        (["2026-01-31T12:00:00", "2026-07-31 12:00"], None, ["12:00", "12:00"]),
        (["2026-01-31T12:00:00", "2026-07-31 12:00"], "Europe/Berlin", ["11:00", "10:00"]),
        (["2026-01-31T12:00:00Z", "2026-07-31 12:00"], "Europe/Berlin", ["12:00", "10:00"]),
        (["2026-01-31T12:00:00+02:00", "2026-07-31 12:00-03"], "Europe/Berlin", ["10:00", "15:00"]),
        (["2026-01-31", "2026-07-31"], "Asia/Tokyo", ["15:00", "15:00"]),
    ],
)
def test_times_without_a_zone_are_of_the_zone_that_is_named(
    bundle, tmp_path, times, zone, expected
):
    path = tmp_path / "keys.csv"
    path.write_text(_HEAD + "".join(f"7,1,{time}\n" for time in times))
    read = read_entities(bundle, path, zone)["event_timestamp"]
    assert list(read.dt.strftime("%H:%M")) == expected


def test_times_without_a_zone_in_a_parquet_file_are_of_the_zone_too(bundle, tmp_path):
    path = tmp_path / "keys.parquet"
    time = pa.array(["2026-07-31 12:00"]).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"category_id": ["7"], "user_id": [1], "event_timestamp": time}), path)
    [read] = read_entities(bundle, path, "Europe/Berlin")["event_timestamp"]
    assert read == datetime(2026, 7, 31, 10, tzinfo=UTC)


def test_reading_times_as_utc_is_said_once(bundle, tmp_path, capsys):
    path = tmp_path / "keys.csv"
    path.write_text(
        f"{_HEAD}7,1,2026-01-31 12:00\n7,2,2026-01-31 12:00\n7,3,2026-01-31T12:00:00Z\n"
    )
    read_entities(bundle, path)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("has no time zone in 2 rows and is read as UTC; --timezone names another")
    read_entities(bundle, path, "UTC")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("time", "zone", "message"),
    [
        ("2026-03-29 02:30", "Europe/Berlin", "row 1 is not a time in Europe/Berlin: 2026-03-29"),
        ("2026-10-25 02:30", "Europe/Berlin", "row 1 is not a time in Europe/Berlin: 2026-10-25"),
        ("noon", "Europe/Berlin", "row 1 is not a time in Europe/Berlin: noon"),
        ("2026-03-29 02:30", "Europe/Berlim", "(did you mean 'Europe/Berlin'?)"),
    ],
)
def test_a_time_that_its_zone_does_not_have_is_refused(bundle, tmp_path, time, zone, message):
    path = tmp_path / "keys.csv"
    path.write_text(f"{_HEAD}7,1,{time}\n")
    with pytest.raises(RunnerError) as refused:
        read_entities(bundle, path, zone)
    assert message in refused.value.message


def given(bundle, dtype):
    return replace(bundle, request=(BundleRequestInput("given", dtype),))


def given_values(bundle, path, zone=None):
    return [
        None if value != value else value for value in read_entities(bundle, path, zone)["given"]
    ]


def write_given(tmp_path, *values):
    path = tmp_path / "rows.csv"
    path.write_text("category_id,user_id,given\n" + "".join(f"7,1,{one}\n" for one in values))
    return path


def test_a_text_is_what_the_file_says_and_null_only_where_it_is_empty(bundle, tmp_path):
    path = write_given(tmp_path, "NA", "null", "NaN", "")
    read = read_entities(given(bundle, "string"), path)["given"]
    assert read.fillna("missing").tolist() == ["NA", "null", "NaN", "missing"]
    path.write_text("category_id,user_id\nNA,1\n")
    assert read_entities(bundle, path)["category_id"].tolist() == ["NA"]


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "timestamp"])
def test_a_missing_number_flag_or_time_may_be_written_as_null(bundle, tmp_path, dtype):
    path = write_given(tmp_path, "NULL", "", "n/a")
    assert read_entities(given(bundle, dtype), path)["given"].isna().all()


@pytest.mark.parametrize("word", ["NULL", ""])
@pytest.mark.parametrize("column", ["user_id", "event_timestamp"])
def test_a_row_without_key_or_time_is_refused_however_it_is_written(bundle, tmp_path, word, column):
    path = tmp_path / "rows.csv"
    row = {"category_id": "7", "user_id": "1", "event_timestamp": "2026-01-31"} | {column: word}
    path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    with pytest.raises(RunnerError, match=f"{column} is empty in 1 of 1 rows, first in row 1"):
        read_entities(bundle, path)


_GIVEN_TIMES = ["2026-07-31T12:00:00", "2026-07-31 12:00", "2026-07-31T12:00:00Z", "2026-07-31", ""]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (None, ["12:00", "12:00", "12:00", "00:00"]),
        ("Europe/Berlin", ["10:00", "10:00", "12:00", "22:00"]),
    ],
)
def test_times_that_are_request_inputs_are_of_the_zone_too(bundle, tmp_path, zone, expected):
    *known, missing = given_values(
        given(bundle, "timestamp"), write_given(tmp_path, *_GIVEN_TIMES), zone
    )
    assert [f"{time:%H:%M}" for time in known] == expected
    assert missing is None


def test_times_of_parquet_that_are_request_inputs_are_of_the_zone_too(bundle, tmp_path):
    path, noon = tmp_path / "rows.parquet", datetime(2026, 1, 31, 12)  # noqa: DTZ001 - the point
    for times in (pa.array([noon, None]), pa.array([noon, None], pa.timestamp("ns"))):
        rows = {"category_id": ["7", "7"], "user_id": [1, 1], "given": times}
        pq.write_table(pa.table(rows), path)
        assert given_values(given(bundle, "timestamp"), path, "Europe/Berlin") == [
            datetime(2026, 1, 31, 11, tzinfo=UTC),
            None,
        ]


def test_a_request_input_in_an_hour_that_the_clock_skips_is_refused(bundle, tmp_path):
    path = write_given(tmp_path, "2026-01-31", "2026-03-29 02:30")
    with pytest.raises(RunnerError, match=r"given in row 2 is not a time in Europe/Berlin: 2026-"):
        read_entities(given(bundle, "timestamp"), path, "Europe/Berlin")


def test_a_time_in_the_far_future_is_a_request_input_as_over_http(bundle, tmp_path):
    path = write_given(tmp_path, "9999-12-31T12:00:00Z", "9999-12-31")
    assert [time.year for time in given_values(given(bundle, "timestamp"), path)] == [9999, 9999]


def test_a_whole_number_beyond_2_to_the_53_is_rounded_as_over_http(bundle, tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"category_id": ["7"], "user_id": [1], "given": [2**53 + 1]}), path)
    assert given_values(given(bundle, "float64"), path) == [2.0**53]


def test_a_column_that_is_there_twice_is_refused(bundle, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("user_id,category_id,user_id\n1,2,3\n")
    with pytest.raises(RunnerError, match="has two columns 'user_id'"):
        read_entities(bundle, path)


def test_what_is_no_time_is_refused_without_a_word_on_zones(bundle, tmp_path, capsys):
    path = tmp_path / "keys.csv"
    path.write_text(f"{_HEAD}7,1,yesterday\n")
    with pytest.raises(RunnerError, match="row 1 is not a time: yesterday"):
        read_entities(bundle, path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("taken", ["user_activity__orders_7d", "missing_views"])
def test_keys_with_a_column_that_online_features_add_are_refused(bundle, taken):
    with pytest.raises(
        RunnerError, match=f"keys: column '{taken}' has the name of an added column"
    ):
        _refuse_taken(bundle, ["user_id", "category_id", taken])


@pytest.mark.parametrize("taken", ["model_name", "model_version", "predicted_on", "predicted_at"])
def test_a_column_that_only_a_table_of_predictions_has_is_refused_only_there(
    bundle, tmp_path, taken
):
    path = tmp_path / "keys.csv"
    path.write_text(f"user_id,category_id,{taken}\n1,2,3\n")
    read_entities(bundle, path, more=OutputFile(tmp_path / "p.csv").columns)
    with pytest.raises(RunnerError, match=f"has a column '{taken}', which the predictions would"):
        read_entities(bundle, path, more=OutputTable("scores.purchase").columns)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.binary(),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.uuid(),
        pa.month_day_nano_interval(),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_what_is_no_text_is_refused_before_a_csv_file_is_begun(tmp_path, kind):
    output, schema = OutputFile(tmp_path / "p.csv"), pa.schema([("tags", kind)])
    with pytest.raises(RunnerError) as refused, output.open(None, schema, None):
        pass
    assert refused.value.message.startswith(f"column tags is {kind}, which cannot be written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_a_text_is_written_into_a_csv_file_however_arrow_stores_it(tmp_path, kind):
    path, rows = tmp_path / "p.csv", pa.table({"tag": pa.array(["a", None], kind)})
    with OutputFile(path).open(None, rows.schema, None) as write:
        write(rows)
    assert path.read_text() == '"tag"\n"a"\n\n'
