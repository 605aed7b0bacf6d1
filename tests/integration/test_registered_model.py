"""A registered model: where a killed training stops, who loads it, and runs whose process is gone.

One recorded run serves all tests: it is registered again under a name for each.
"""

import os
import signal
import subprocess
import sys
import sysconfig

import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from runner.commands.project.checks import tools
from runner.commands.training.training_acts import record
from runner.errors import RunnerError
from runner.packaging.served_version import load_version
from runner.records import registry, tracking
from runner.records.dead_runs import PROCESS, end_dead_runs, this_process
from runner.records.registry import CHAMPION, version_with
from tests.conftest import free_port
from tests.http_process import wait_for_http
from tests.modelling import make_recipe
from tests.trainings import changed, train


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a training, its client, run id and the digest of its bundle."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").mkdir()
    training = train(folder, make_recipe(folder / "recipes" / "m.yaml"))
    client = registry.connect(training.prepared.settings)
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    return training, client, *tracking.record(client, training, artifacts)


def named(training, name):
    return changed(
        training, recipe=training.recipe.model_copy(update={"registered_model_name": name})
    )


class Kill(BaseException):
    """What no handler catches, as a SIGKILL."""


WRITES = (
    *("create_registered_model", "create_model_version", "set_model_version_tag"),
    *("set_registered_model_alias", "delete_registered_model_alias"),
)


def kill_before(monkeypatch, at):
    """Stop in place of the registry's n-th write, counted from 0; return how many there were."""
    counted = []

    def counting(write):
        def stop_or_write(*arguments, **keywords):
            if len(counted) == at:
                raise Kill
            counted.append(write.__name__)
            return write(*arguments, **keywords)

        return stop_or_write

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
    return counted


def register_and_award(world, training):
    _, client, run_id, digest = world
    return tracking.award(client, training, tracking.register(client, run_id, digest, training))


def champion_of(world, name):
    """Return the champion's version, loaded as serving loads it; "" if there is none."""
    training, client = world[:2]
    champion = version_with(client, name, CHAMPION)
    if champion is None:
        return ""
    assert champion.status == "READY"
    assert client.get_run(champion.run_id).info.status == "FINISHED"
    _, number = load_version(training.prepared.settings, f"models:/{name}@{CHAMPION}")
    return number


def test_a_kill_between_any_two_writes_of_the_registry_leaves_nothing_half_done(world, monkeypatch):
    """First version, then one that beats it, each killed before every write and then done."""
    seen = set()
    for at in range(20):
        name = f"killed_{at}"
        first = named(world[0], name)
        with monkeypatch.context() as patched:
            writes = kill_before(patched, at)
            try:
                register_and_award(world, first)
            except Kill:
                seen.add((1, len(writes)))
        assert champion_of(world, name) in {"", "1"}
        for version in registry.versions_of(world[1], name):
            load_version(world[0].prepared.settings, f"models:/{name}/{version.version}")
            assert {"gate", "serving_bundle_sha256", "serving_interface"} <= set(version.tags)
        if (1, len(writes)) not in seen:
            break
    assert seen == {(1, 0), (1, 1), (1, 2)}
    before = champion_of(world, name)
    assert before == "1"
    comparison = type(world[0].model.comparison)(before)
    for at in range(20):
        with monkeypatch.context() as patched:
            writes = kill_before(patched, at)
            try:
                register_and_award(world, changed(first, comparison=comparison))
                break
            except Kill:
                seen.add((2, len(writes)))
        now = champion_of(world, name)
        newest = registry.versions_of(world[1], name)[0].version
        assert now == (newest if "set_registered_model_alias" in writes else before)
    assert {writes for act, writes in seen if act == 2} == {0, 1, 2, 3}
    assert champion_of(world, name) == str(registry.versions_of(world[1], name)[0].version)


def test_a_killed_training_is_done_by_running_it_again(world, monkeypatch):
    training = named(world[0], "again")
    with monkeypatch.context() as patched:
        kill_before(patched, 2)
        with pytest.raises(Kill):
            register_and_award(world, training)
    assert champion_of(world, "again") == ""
    assert register_and_award(world, training) == ()
    assert champion_of(world, "again") == "2"


def test_a_training_killed_while_it_records_leaves_no_version(world, monkeypatch):
    training = named(world[0], "unrecorded")

    def killed(*_, **__):
        raise Kill

    monkeypatch.setattr(tracking, "log_model", killed)
    with pytest.raises(Kill):
        record(world[1], training)
    assert registry.versions_of(world[1], "unrecorded") == []


def left_open(client, tag):
    return client.create_run("0", tags={} if tag is None else {PROCESS: tag}).info.run_id


def test_runs_of_processes_that_are_gone_are_ended_and_no_others(world):
    client, host = world[1], this_process()[PROCESS].rsplit(" ", 2)[0]
    with subprocess.Popen(["sleep", "60"]) as process:
        killed = left_open(
            client, f"{host} {process.pid} {psutil.Process(process.pid).create_time()}"
        )
        assert killed not in end_dead_runs(client)
        process.kill()
    reused = left_open(client, f"{host} {os.getpid()} 1000")
    alive = [left_open(client, tag) for tag in (this_process()[PROCESS], "elsewhere 1 1", None)]
    assert set(end_dead_runs(client)) == {killed, reused}
    assert client.get_run(killed).info.status == "KILLED"
    assert {client.get_run(run).info.status for run in alive} == {"RUNNING"}
    assert client.get_run(world[2]).data.tags[PROCESS] == this_process()[PROCESS]


def test_doctor_names_a_champion_whose_run_is_in_the_trash(world):
    training, client, run_id, _ = world
    register_and_award(world, training)
    settings = training.prepared.settings
    assert tools.champions(settings) == "intact: m version 1"
    client.delete_run(run_id)
    try:
        with pytest.raises(RunnerError, match="the run of m version 1 is deleted") as refused:
            tools.champions(settings)
        assert refused.value.hint.startswith(f"`mlflow runs restore --run-id {run_id}`")
    finally:
        client.restore_run(run_id)


def test_the_registered_model_takes_what_pandas_and_sql_hand_out(world):
    training, X = world[0], world[0].prepared.data.test.X
    register_and_award(world, named(training, "loaded"))
    loaded = mlflow.pyfunc.load_model("models:/loaded/1")
    expected = training.model.pipeline.predict_proba(X)
    numeric = [name for name in X if X[name].dtype != object]
    ordinary = X.astype(dict.fromkeys(numeric, "float64"))
    assert loaded.predict(ordinary).tolist() == expected.tolist()
    orders = X["activity__orders_7d"]
    assert orders.isna().any()
    for dtype in ("float32", "Int64", "Float64", object):
        numbers = orders.astype(dtype).where(orders.notna(), None)
        frame = ordinary.assign(activity__orders_7d=numbers)
        assert loaded.predict(frame).tolist() == expected.tolist()
    member = X["activity__is_member"].map({0.0: False, 1.0: True})
    for dtype in ("boolean", object):
        flags = ordinary.assign(
            activity__is_member=member.astype(dtype), activity__value=X["activity__value"]
        )
        assert loaded.predict(flags).tolist() == expected.tolist()
    for dtype in ("int64", "Int64"):
        whole = ordinary.assign(activity__orders_7d=orders.fillna(0).astype(dtype))
        assert len(loaded.predict(whole)) == len(X)
    example = loaded.input_example
    np.testing.assert_array_equal(loaded.predict(example), expected[: len(example)])
    unknown = pd.DataFrame({name: [None] for name in numeric}).assign(activity__country="")
    assert len(loaded.predict(unknown.astype(dict.fromkeys(numeric, "float64")))) == 1


def test_a_registered_classifier_answers_probabilities_and_has_its_labels_too(world):
    training, X = world[0], world[0].prepared.data.test.X
    register_and_award(world, named(training, "probable"))
    loaded = mlflow.pyfunc.load_model("models:/probable/1")
    served = training.model.served.answer(X)
    np.testing.assert_allclose(loaded.predict(X), served.probabilities, atol=1e-6)
    assert loaded.get_raw_model().predict(X).tolist() == served.labels.tolist()
    recorded = training.prepared.data.table.to_pandas()[list(X)]
    flags = recorded["activity__is_member"].astype("boolean")
    assert len(loaded.predict(recorded.assign(activity__is_member=flags))) == len(recorded)


def test_mlflow_serves_the_registered_model(world, tmp_path):
    training, X = world[0], world[0].prepared.data.test.X.head(50)
    register_and_award(world, named(training, "by_mlflow"))
    port, scripts = free_port(), sysconfig.get_path("scripts")  # mlflow looks for uvicorn there
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/by_mlflow@champion",
    ]
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--port", str(port)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": training.prepared.settings.mlflow_tracking_uri,
        },
        start_new_session=True,
    )
    with server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_http(server, f"{url}/ping")
            content = X.astype(object).where(X.notna(), None).to_dict("split", index=False)
            answer = httpx.post(f"{url}/invocations", json={"dataframe_split": content})
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    assert answer.json() == {"predictions": training.model.pipeline.predict_proba(X).tolist()}
    assert list(tmp_path.iterdir()) == []


def test_mlflow_shows_who_trained_what_and_how_good_it_is(world):
    training, client, run_id, _ = world
    register_and_award(world, named(training, "shown"))
    run = client.get_run(run_id)
    assert run.data.tags["mlflow.source.name"] == "recipes/m.yaml"
    assert run.data.tags["mlflow.user"]
    note = run.data.tags["mlflow.note.content"]
    score = training.model.evaluation.test["roc_auc"]
    assert f"| {score:.4f} | 0.7000 to 0.9000 |" in note
    assert "| spine | spine\\_data.spine\\_y |" in note
    assert "| registered model | shown |" in client.get_model_version("shown", "1").description
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
