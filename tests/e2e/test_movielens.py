"""The second project, on real data: the same commands, and not a word of the shop."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.e2e.conftest import REPOSITORY, Project, environment, served

RECIPE = "recipes/liked.yaml"
NOBODY = 999_999


@pytest.fixture(scope="module")
def data():
    """The folder with the MovieLens files; skips without it."""
    beside = REPOSITORY.parent / "shared" / "data" / "movielens-small"
    folder = Path(os.environ.get("MOVIELENS_DIR") or beside)
    if not (folder / "ratings.csv").is_file():
        pytest.skip(
            f"no MovieLens files in {folder}: download ml-latest-small and set MOVIELENS_DIR"
        )
    return folder


@pytest.fixture(scope="module")
def project(data, tmp_path_factory, new_database, redis_server):
    """A copy of the project with the data loaded."""
    folder = tmp_path_factory.mktemp("movielens") / "project"
    made_by_use = shutil.ignore_patterns("target", "logs", "mlruns", "data", "__pycache__")
    shutil.copytree(
        REPOSITORY / "examples" / "movielens", folder, symlinks=True, ignore=made_by_use
    )
    loaded_project = Project(folder, environment(new_database(), redis_server))
    loaded = loaded_project.run("python", "load.py", "--data", str(data))
    assert loaded.returncode == 0, loaded.stderr
    return loaded_project


@pytest.fixture(scope="module")
def trained(project):
    """What `runner train` prints."""
    return project.runner("train", RECIPE)


@pytest.fixture(scope="module")
def movielens(project, trained):
    """The project with a champion and a filled online store."""
    project.runner("materialize", RECIPE)
    return project


@pytest.fixture(scope="module")
def entity_rows(movielens):
    """Entity rows of known users and movies, in pairs that the user has not rated, and strangers.

    The last movie has facts but no ratings.
    """
    (unrated,) = movielens.query("""
        select m.movie_id from feature_mart.movie_facts as m
        where not exists (select from spine_data.spine_rating as s where s.movie_id = m.movie_id)
        order by 1 limit 1
    """)
    pairs = [(1, 1), (15, 50), (2, NOBODY), (NOBODY, 1), (NOBODY, NOBODY), (1, *unrated)]
    return [{"user_id": user, "movie_id": movie} for user, movie in pairs]


@pytest.fixture(scope="module")
def answer(movielens, entity_rows):
    """What the API says of the entity rows, with the features it used."""
    with served(movielens, RECIPE) as api:
        return api.post("/predict", {"entity_rows": entity_rows, "include_features": True})


def test_the_model_is_as_good_as_when_the_gate_was_set(project, trained):
    assert project.registered("movielens_liked") == (["1"], ["champion"])
    scores = [line.split() for line in trained.splitlines() if line.startswith("roc_auc")]
    (_, _, on_test_rows, *_) = scores[0]
    assert 0.83 < float(on_test_rows) < 0.85


def test_every_rating_is_a_training_row(movielens):
    assert movielens.query("""
        select (select count(*) from spine_data.spine_rating) = count(*) from raw_data.ratings
    """) == [(True,)]


def test_online_features_are_the_newest_rows_of_the_marts(movielens, answer):
    features = answer["predictions"][0]["features"]
    (user,) = movielens.query("""
        select ratings_count_all, rating_mean_last_20 from feature_mart.user_rating_history
        where user_id = 1 order by event_timestamp desc limit 1
    """)
    (movie,) = movielens.query("""
        select count(*), avg(rating)::float8 from raw_data.ratings where movie_id = 1
    """)
    assert features["user_rating_history__ratings_count_all"]["value"] == user[0]
    assert features["user_rating_history__rating_mean_last_20"]["value"] == user[1]
    assert features["movie_rating_history__ratings_count_all"]["value"] == movie[0]
    assert features["movie_rating_history__rating_mean_all"]["value"] == pytest.approx(movie[1])
    assert features["movie_facts__release_year"]["value"] == 1995
    assert features["movie_facts__is_comedy"]["value"] is True


def test_ratings_of_2016_and_before_are_not_too_old(answer):
    statuses = {f["status"] for f in answer["predictions"][0]["features"].values()}
    assert statuses <= {"present", "null"}


def test_whoever_is_not_known_has_missing_features_and_a_prediction(answer):
    stranger = answer["predictions"][4]
    assert {f["value"] for f in stranger["features"].values()} == {None}
    assert 0 < stranger["probabilities"]["1"] < 1


def test_batch_and_online_predictions_agree(movielens, entity_rows, answer):
    keys, output = movielens.root / "keys.csv", movielens.root / "predictions.csv"
    pd.DataFrame(entity_rows).to_csv(keys, index=False)
    movielens.runner("predict", RECIPE, str(keys), "--output", str(output))
    batch = pd.read_csv(output)
    online = [prediction["probabilities"]["1"] for prediction in answer["predictions"]]
    assert batch[["user_id", "movie_id"]].to_dict("records") == entity_rows
    np.testing.assert_allclose(batch["probability_1"], online, atol=1e-6)


def test_the_feast_command_line_works_in_the_project(movielens):
    listed = movielens.run("feast", "-c", "feature_repo", "feature-views", "list")
    assert listed.returncode == 0, listed.stderr
    assert "user_rating_history" in listed.stdout
