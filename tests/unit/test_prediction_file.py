"""A key that does not fit is told by its file, column, row, value and the type that is needed."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.bundle import read_bundle
from runner.commands.prediction_file import read_entities
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


def test_keys_have_the_types_of_the_model(bundle, tmp_path):
    path = tmp_path / "keys.csv"
    path.write_text("category_id,user_id,n\n007, 2 ,1.5\n")
    rows = read_entities(bundle, path).drop(columns="event_timestamp")
    assert rows.to_dict("records") == [{"category_id": "007", "user_id": 2, "n": 1.5}]
