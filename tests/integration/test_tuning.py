"""Tuning on made-up rows, with Optuna's and MLflow's SQLite files: found, kept, recorded."""

import dataclasses
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from runner.errors import RunnerError
from runner.modelling import tuning_search as tuning
from runner.modelling.evaluation import as_served, evaluate
from runner.modelling.folds import time_folds
from runner.modelling.pipeline import fit_pipeline
from runner.modelling.study import Study
from runner.modelling.training_data import Rows
from runner.modelling.tuning_search import NOT_TUNED, study_name, tune
from runner.packaging.served_model import class_list, served_model
from runner.recipes.recipe import load_recipe
from runner.records import registry, tracking
from runner.records.recorded_run import read_run
from tests import warm
from tests.modelling import make_recipe
from tests.trainings import project, train, training_data

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "tuning.md").read_text()
FIXED = "sklearn.ensemble.RandomForestClassifier, init_args: {n_estimators: 5, random_state: 0}"
SPACE = """
    max_depth: {choice: [null, 1, 4]}
    min_samples_leaf: {int: [1, 40], log: true}
    max_features: {float: [0.2, 1.0]}
"""


def searching(folder, n_trials=8, more="", space=SPACE, **changes):
    """Return a recipe that tunes a small forest."""
    text = f"tuning:\n  n_trials: {n_trials}\n{more}  search_space:{space}"
    folder.mkdir(exist_ok=True)
    return make_recipe(folder / "recipe.yaml", **{"estimator": FIXED, "more": text, **changes})


def outcome(tuned):
    """Return what was tried and found, without the times."""
    return [(each.arguments, each.fold_scores, each.pruned) for each in tuned.trials]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return tune(project(folder), searching(folder, 14), training_data())


PLAIN = """
import sys
from pathlib import Path
from tests.modelling import make_recipe
from tests.trainings import train

folder = Path(sys.argv[1])
print(train(folder, make_recipe(folder / "recipe.yaml")).model.tuned, "optuna" in sys.modules)
"""


def test_a_recipe_without_tuning_neither_tunes_nor_imports_optuna(tmp_path):
    command = [sys.executable, "-c", PLAIN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{NOT_TUNED} False"
    assert not done.stderr
    assert not (tmp_path / "mlruns").exists()


def test_the_chosen_arguments_are_those_of_the_best_complete_trial(tuned):
    complete = [each for each in tuned.trials if not each.pruned]
    assert len(tuned.trials) == 14
    assert tuned.metrics["tuning_best_score"] == max(np.mean(each.fold_scores) for each in complete)
    assert tuned.arguments == max(complete, key=lambda each: each.score).arguments
    assert {type(each.arguments["max_features"]) for each in tuned.trials} == {float}
    assert {each.arguments["max_depth"] for each in tuned.trials} <= {None, 1, 4}


def test_a_trials_score_is_that_of_the_pipeline_on_later_training_rows(tuned, tmp_path):
    recipe, data = searching(tmp_path), training_data()
    stamps = data.table["event_timestamp"].slice(0, len(data.train.y))
    best = recipe.with_arguments(tuned.arguments)
    scores = []
    for fold in time_folds(stamps, count=3, embargo=recipe.split.embargo):
        pipeline = fit_pipeline(best, data.train.X[fold.train], data.train.y[fold.train])
        X, y = data.train.X[fold.validation], data.train.y[fold.validation]
        scores.append(roc_auc_score(y, pipeline.predict_proba(X)[:, 1]))
    assert tuned.best.fold_scores == tuple(scores)


def test_the_test_rows_take_no_part(tuned, tmp_path, monkeypatch):
    data = training_data()
    blind = dataclasses.replace(data, test=Rows(data.test.X.iloc[:0], data.test.y[:0]))
    again = tune(project(tmp_path), searching(tmp_path, 14), blind)
    assert outcome(again) == outcome(tuned)


def test_a_hopeless_trial_is_pruned_before_its_last_fold(tuned):
    pruned = [each for each in tuned.trials if each.pruned]
    assert pruned
    assert all(len(each.fold_scores) < 3 for each in pruned)
    assert not any(each.pruned for each in tuned.trials[:5])


def test_another_seed_tries_something_else(tuned, tmp_path):
    other = tune(project(tmp_path), searching(tmp_path, 3, "  seed: 1\n"), training_data())
    assert outcome(other) != outcome(tuned)[:3]


def test_equal_choices_of_different_types_are_told_apart(tmp_path):
    space = "\n    max_features: {choice: [1, 1.0]}\n"
    tuned = tune(project(tmp_path), searching(tmp_path, 8, space=space), training_data())
    by_type = {type(each.arguments["max_features"]): each.fold_scores[0] for each in tuned.trials}
    assert by_type.keys() == {int, float}
    assert by_type[int] != by_type[float]


def test_more_trials_go_on_from_those_there_are(tuned, tmp_path, monkeypatch):
    first = tune(project(tmp_path), searching(tmp_path, 4), training_data())
    longer = tune(project(tmp_path), searching(tmp_path, 14), training_data())
    assert longer.trials[:4] == first.trials
    assert outcome(longer) == outcome(tuned)
    monkeypatch.setattr(tuning, "fit_pipeline", None)  # nothing is left to try
    assert tune(project(tmp_path), searching(tmp_path, 14), training_data()) == longer
    assert tune(project(tmp_path), searching(tmp_path, 4), training_data()) == first


def test_a_search_interrupted_by_ctrl_c_keeps_what_was_finished(tuned, tmp_path, monkeypatch):
    fits = []

    def interrupted(*args):
        fits.append(args)
        if len(fits) == 8:
            raise KeyboardInterrupt
        return fit_pipeline(*args)

    monkeypatch.setattr(tuning, "fit_pipeline", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(project(tmp_path), searching(tmp_path, 14), training_data())
    assert states(tmp_path) == ["COMPLETE", "COMPLETE", "FAIL"]
    again = tune(project(tmp_path), searching(tmp_path, 14), training_data())
    assert outcome(again) == outcome(tuned)


TWICE = """
import sys
from pathlib import Path
from tests.integration.test_tuning import searching
from tests.trainings import project, training_data
from runner.modelling.tuning_search import tune

folder = Path(sys.argv[1])
tune(project(folder), searching(folder / sys.argv[2], 6), training_data())
"""


def test_two_trainings_at_once_share_their_trials(tmp_path):
    processes = [
        subprocess.Popen([warm.program("python"), "-c", TWICE, str(tmp_path), name], cwd=ROOT)
        for name in ("a", "b")
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert states(tmp_path).count("FAIL") == 0
    assert 6 <= len(states(tmp_path)) <= 7


SLOW = """
import sys, time
from pathlib import Path
from runner.modelling import tuning_search as tuning
from tests.integration.test_tuning import searching
from tests.trainings import project, training_data

fit, folder = tuning.fit_pipeline, Path(sys.argv[1])
tuning.fit_pipeline = lambda *args: (time.sleep(0.2), fit(*args))[1]
tuning.tune(project(folder), searching(folder, 14), training_data())
"""


@pytest.mark.parametrize("how", [warm.KILL, signal.SIGINT])
def test_a_search_that_was_killed_finds_what_it_would_have_found_in_one_go(tuned, tmp_path, how):
    process = subprocess.Popen([warm.program("python"), "-c", SLOW, str(tmp_path)], cwd=ROOT)
    try:
        wait_until(lambda: states(tmp_path)[2:] == ["RUNNING"], process)
        process.send_signal(how)
        process.wait(30)
    finally:
        process.send_signal(warm.KILL)
    assert states(tmp_path) in (
        ["COMPLETE", "COMPLETE", "RUNNING"],
        ["COMPLETE", "COMPLETE", "FAIL"],
    )
    again = tune(project(tmp_path), searching(tmp_path, 14), training_data())
    assert outcome(again) == outcome(tuned)


def wait_until(ready, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(folder):
    """Return the states of all trials in Optuna's storage."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/mlruns/optuna.db?mode=ro", uri=True)) as db:
            return [state for (state,) in db.execute("SELECT state FROM trials ORDER BY trial_id")]
    except sqlite3.OperationalError:  # not there yet
        return []


def test_a_timeout_takes_the_best_so_far_and_finishes_at_least_one_trial(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    recipe = searching(tmp_path, 14, "  timeout: 1s\n")
    tuned = tune(project(tmp_path), recipe, training_data())
    assert [len(each.fold_scores) for each in tuned.trials] == [3]
    assert states(tmp_path) == ["COMPLETE", "FAIL"]


def test_whatever_decides_a_score_begins_another_study(tmp_path):
    data = training_data()
    names = [
        study_name(recipe, rows)
        for recipe, rows in (
            (searching(tmp_path), data),
            (searching(tmp_path), training_data(seed=7)),
            (searching(tmp_path, more="  seed: 1\n"), data),
            (searching(tmp_path, more="  folds: 2\n"), data),
            (searching(tmp_path, space=SPACE.replace("40", "41")), data),
            (searching(tmp_path, scoring="accuracy"), data),
            (searching(tmp_path, estimator=FIXED.replace("5", "6")), data),
            (searching(tmp_path, estimator=FIXED.replace("Random", "Random")), data),
        )
    ]
    assert names[-1] == names[0]
    assert len(set(names)) == len(names) - 1
    same = (
        searching(tmp_path, 9),
        searching(tmp_path, more="  timeout: 1m\n"),
        searching(tmp_path, scoring="roc_auc, accuracy"),
    )
    assert {study_name(recipe, data) for recipe in same} == {names[0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"space": "\n    oob_score: {choice: [true]}\n    bootstrap: {choice: [false]}\n"},
            (
                r"recipe\.yaml:11:1: tuning: fold 1 of 3 with oob_score true, bootstrap false: "
                "estimator: scikit-learn cannot fit it: Out of bag estimation"
            ),
        ),
        (
            {"more": "  folds: 20\n"},
            "tuning: fold 1 of 20 with max_depth .*: text feature activity__country has no value",
        ),
    ],
)
def test_a_trial_that_cannot_be_fitted_is_told_with_its_arguments(tmp_path, changes, message):
    with pytest.raises(RunnerError, match=message) as refused:
        tune(project(tmp_path), searching(tmp_path, **changes), training_data())
    assert refused.value.hint == "narrow tuning.search_space, or set tuning.folds lower"


def test_a_fold_of_one_class_is_refused_before_anything_is_tried(tmp_path):
    data = training_data()
    y = data.train.y.copy()
    y[len(y) // 4 : len(y) // 2] = 1
    spoiled = dataclasses.replace(data, train=Rows(data.train.X, y))
    with pytest.raises(RunnerError) as refused:
        tune(project(tmp_path), searching(tmp_path, more="  folds: 3\n"), spoiled)
    assert refused.value.message.endswith(
        "tuning.folds: fold 1 of 3: label y is 1 in all 76 validation rows"
    )


def test_a_score_that_is_no_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "score", lambda *_: {"roc_auc": float("nan")})
    with pytest.raises(RunnerError, match=r"with max_depth .*: roc_auc is nan"):
        tune(project(tmp_path), searching(tmp_path), training_data())


def in_postgres(folder, address):
    """Return the settings of a project whose trials are kept in PostgreSQL."""
    url = (
        f"postgresql://{address.user}:{address.password}@{address.host}:{address.port}"
        f"/{address.database}"
    )
    settings = project(folder)
    return dataclasses.replace(settings, env={**settings.env, "OPTUNA_STORAGE": url})


def test_a_search_goes_on_from_another_machine_where_postgresql_keeps_its_trials(
    tuned, tmp_path, database
):
    machines = [tmp_path / "here", tmp_path / "there"]
    for machine, n_trials in zip(machines, (4, 14), strict=True):
        recipe = searching(machine, n_trials)
        found = tune(in_postgres(machine, database), recipe, training_data())
        assert len(found.trials) == n_trials
        assert not (machine / "mlruns").exists()
    assert outcome(found) == outcome(tuned)


def test_two_searches_at_the_same_time_try_the_same(tmp_path):
    recipe = searching(tmp_path)
    here, there = (Study(f"sqlite:///{tmp_path}/trials.db", "s", recipe.tuning) for _ in range(2))
    for score in (0.5, 0.7):
        begun = [study.begin() for study in (here, there)]
        assert begun[0].arguments == begun[1].arguments
        for trial in begun:
            trial.end(score)


def test_a_storage_that_does_not_answer_is_told_without_its_password(tmp_path, database):
    nobody = dataclasses.replace(database, port=1, password="hush")
    with pytest.raises(RunnerError, match=r"OPTUNA_STORAGE: cannot be used .*port 1") as refused:
        tune(in_postgres(tmp_path, nobody), searching(tmp_path), training_data())
    assert "hush" not in str(refused.value)
    assert "\n" not in refused.value.message
    assert "unset it" in refused.value.hint


def test_a_folder_that_cannot_be_made_for_trials_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    settings = project(tmp_path)
    env = {**settings.env, "OPTUNA_STORAGE": f"sqlite:///{tmp_path}/file/trials/x.db"}
    with pytest.raises(RunnerError, match="file/trials: cannot be made") as refused:
        tune(dataclasses.replace(settings, env=env), searching(tmp_path), training_data())
    assert "OPTUNA_STORAGE" in refused.value.hint


@pytest.mark.parametrize("password", ["hu@sh", "hu:@sh:", "a/hu@sh"])
def test_a_password_that_makes_another_url_is_not_told(tmp_path, database, password):
    nobody = dataclasses.replace(database, password=password)
    with pytest.raises(RunnerError, match="OPTUNA_STORAGE is not the URL of a") as refused:
        tune(in_postgres(tmp_path, nobody), searching(tmp_path), training_data())
    assert "sh" not in refused.value.message
    assert "%40 for @" in refused.value.hint


def test_a_file_that_is_not_optunas_is_named(tmp_path):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "optuna.db").write_text("no database, but long enough to be one" * 99)
    with pytest.raises(RunnerError, match=r"optuna\.db: cannot be used as Optuna's storage"):
        tune(project(tmp_path), searching(tmp_path), training_data())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A training by the recipe of the docs, with fewer trials: client, training and run id."""
    folder = tmp_path_factory.mktemp("recorded")
    example = re.search(r"```yaml\n(.*?)```", DOCS, re.DOTALL)[1]
    plain = make_recipe(folder / "recipe.yaml").source.text
    kept = [line for line in plain.splitlines() if not re.match("estimator|scoring|experim", line)]
    text = "\n".join([*kept, "experiment_name: category_purchase", example])
    assert "n_trials: 30" in text
    (folder / "recipe.yaml").write_text(text.replace("n_trials: 30", "n_trials: 7"))
    training = train(folder, load_recipe(folder / "recipe.yaml"))
    client = registry.connect(training.prepared.settings)
    (folder / "artifacts").mkdir()
    run_id, _ = tracking.record(client, training, folder / "artifacts")
    return client, training, client.get_run(run_id)


def test_the_training_run_holds_the_chosen_arguments_and_their_score(recorded):
    _, training, run = recorded
    for name, value in training.model.tuned.arguments.items():
        assert run.data.params[f"estimator.{name}"] == str(value)
    assert run.data.metrics["n_trials"] == 7
    assert run.data.metrics["tuning_best_score"] == training.model.tuned.best.score
    assert run.info.status == "FINISHED"


def test_every_trial_is_a_run_below_that_of_its_training(recorded):
    client, training, run = recorded
    query = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    children = client.search_runs(run.info.experiment_id, query, order_by=["start_time"])
    assert len(children) == 7
    for trial, child in zip(training.model.tuned.trials, children, strict=True):
        assert child.info.status == "FINISHED"
        assert child.data.tags["trial_state"] == ("pruned" if trial.pruned else "complete")
        expected = {name: str(value) for name, value in trial.arguments.items()}
        assert child.data.params == expected
        history = client.get_metric_history(child.info.run_id, "fold_roc_auc")
        assert tuple(each.value for each in history) == trial.fold_scores
        mean = None if trial.pruned else trial.score
        assert child.data.metrics.get("mean_roc_auc") == mean
        age = datetime.now(UTC).timestamp() - child.info.start_time / 1000
        assert 0 < age < 600


def test_the_docs_show_how_to_list_the_trials(recorded):
    _, training, run = recorded
    names = {"run_id": run.info.run_id}
    exec(re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1], names)
    assert len(names["trials"]) == 7
    assert names["trials"]["metrics.mean_roc_auc"].iloc[0] == training.model.tuned.best.score


def test_the_recorded_arguments_train_the_same_model_without_tuning(recorded, tmp_path):
    client, training, run = recorded
    path = client.download_artifacts(run.info.run_id, "tuning.json", str(tmp_path))
    arguments = json.loads(Path(path).read_text())["arguments"]
    assert (
        "n_trials: 7"
        in Path(
            client.download_artifacts(run.info.run_id, "recipe.yaml", str(tmp_path))
        ).read_text()
    )
    again = fit_pipeline(training.recipe.with_arguments(arguments), *training.prepared.data.train)
    X = training.prepared.data.test.X
    np.testing.assert_array_equal(again.predict_proba(X), training.model.pipeline.predict_proba(X))


def test_a_recorded_tuning_is_reproduced_with_what_it_found_not_by_another_search(recorded):
    client, training, run = recorded
    again = read_run(client, run)
    found = training.recipe.with_arguments(training.model.tuned.arguments)
    assert again.recipe.estimator.init_args == found.estimator.init_args
    pipeline = fit_pipeline(again.recipe, *training.prepared.data.train)
    served, classes = served_model(pipeline, training.prepared.data.test.X), class_list(pipeline)
    scores = evaluate(
        again.recipe,
        *(
            as_served(served.answer(X), classes, y)
            for X, y in (training.prepared.data.train, training.prepared.data.test)
        ),
    )
    assert scores.test == training.model.evaluation.test
