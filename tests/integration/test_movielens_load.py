"""`examples/movielens/load.py`: what it copies, and how it refuses files that do not fit."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from examples.movielens.load import PROJECT, load
from runner.errors import RunnerError
from runner.settings import find_root
from tests.conftest import postgres_env

MOVIES = 'movieId,title,genres\n1,Toy Story (1995),Comedy\n2,"Amélie, or so (2001)",Drama\n'
LOAD = "examples.movielens.load"
RATINGS = "userId,movieId,rating,timestamp\n7,1,4,1260759144\n7,2,2.5,1260759144\n"
TAGS = 'userId,movieId,tag,timestamp\n7,1,"a ""tag"", quoted",1138537770\n'


@pytest.fixture
def data(tmp_path):
    """A folder with three small files."""
    for name, text in {"movies": MOVIES, "ratings": RATINGS, "tags": TAGS}.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def variables(database, monkeypatch):
    """The variables that name the test's database, set."""
    env = {
        **postgres_env(database),
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def query(database):
    """Returns the rows of a query."""
    with psycopg.connect(**database.conninfo, autocommit=True) as connection:
        yield lambda text: connection.execute(text).fetchall()


def refusal(data: Path | None) -> RunnerError:
    """Return what `load` raises."""
    with pytest.raises(RunnerError) as caught:
        load(data)
    return caught.value


def run_command(cwd: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run python with `command` in `cwd`."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_example_is_a_project_of_its_own_inside_the_repository():
    assert find_root(PROJECT / "recipes") == PROJECT


def test_rows_are_copied_as_they_are(data, variables, query):
    load(data)
    assert query("select * from raw_data.movies order by 1") == [
        (1, "Toy Story (1995)", "Comedy"),
        (2, "Amélie, or so (2001)", "Drama"),
    ]
    assert query("select rating::text, rated_epoch from raw_data.ratings order by movie_id") == [
        ("4.0", 1260759144),
        ("2.5", 1260759144),
    ]
    assert query("select tag from raw_data.tags") == [('a "tag", quoted',)]


def test_a_second_load_replaces_the_rows(data, variables, query):
    load(data)
    (data / "ratings.csv").write_text(RATINGS + "8,1,5,1260759145\n")
    load(data)
    assert query("select count(*) from raw_data.ratings") == [(3,)]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(data, variables, query):
    (data / "ratings.csv").write_bytes(b"\xef\xbb\xbf" + RATINGS.replace("\n", "\r\n").encode())
    load(data)
    assert query("select sum(rating) from raw_data.ratings where user_id = 7")[0][0] == 6.5


def test_without_a_folder_the_hint_says_where_to_get_the_files():
    error = refusal(None)
    assert "no folder" in error.message
    assert "ml-latest-small.zip" in error.hint
    assert "--data" in error.hint
    assert "MOVIELENS_DIR" in error.hint


def test_a_missing_file_is_named_with_the_folder_to_put_it_in(data):
    (data / "tags.csv").unlink()
    error = refusal(data)
    assert error.message == f"{data / 'tags.csv'}: no such file"
    assert str(data) in error.hint


@pytest.mark.parametrize(
    ("text", "found"), [("userId,movieId,stars,timestamp\n", "stars"), ("", "missing")]
)
def test_a_wrong_header_is_shown_beside_the_right_one(data, text, found):
    (data / "ratings.csv").write_text(text)
    error = refusal(data)
    assert error.message.startswith(f"{data / 'ratings.csv'}:1: ")
    assert found in error.message
    assert "userId,movieId,rating,timestamp" in error.message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("8,1,good,1260759144", '"good"'),
        ("8,1,4", "missing data"),
        ("8,1,4,1260759144,1", "extra data"),
        ("8,,4,1260759144", "bigint"),
        ("8,1,44,1260759144", "overflow"),
        ("7,1,4,1260759144", "(7, 1) already exists"),
        ("8,1,\\N,1260759144", "null"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_file_and_line(data, variables, row, reason):
    (data / "ratings.csv").write_text(f"{RATINGS}{row}\n")
    error = refusal(data)
    assert error.message.startswith(f"{data / 'ratings.csv'}:4: ")
    assert reason in error.message


def test_a_file_without_rows_is_refused(data, variables):
    (data / "movies.csv").write_text("movieId,title,genres\n")
    assert refusal(data).message == f"{data / 'movies.csv'}: no rows below the header"


def test_after_a_refusal_the_old_rows_are_still_there(data, variables, query):
    load(data)
    (data / "movies.csv").write_text(MOVIES.replace("Toy", "New"))
    (data / "tags.csv").write_text(TAGS + "7,1,broken\n")
    refusal(data)
    assert query("select title from raw_data.movies where movie_id = 1") == [("Toy Story (1995)",)]


def test_both_ways_to_call_it_end_a_refusal_in_two_lines(data, variables):
    for cwd, command in ((PROJECT, ["load.py"]), (PROJECT.parents[1], ["-m", LOAD])):
        done = run_command(cwd, *command, "--data", str(data / "none"))
        assert done.returncode == 1
        assert not done.stdout
        error, hint = done.stderr.splitlines()
        assert error == f"error: {data / 'none' / 'movies.csv'}: no such file"
        assert hint.startswith("hint: ")


def test_the_folder_can_come_from_the_environment(data, variables):
    done = run_command(PROJECT, "load.py", MOVIELENS_DIR=str(data))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "raw_data.ratings: 2 rows"


def test_a_server_that_does_not_answer_is_named(data, variables, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    error = refusal(data)
    assert error.message.startswith(f"PostgreSQL at {variables['PGHOST']}:1: ")
    assert "runner up" in error.hint
