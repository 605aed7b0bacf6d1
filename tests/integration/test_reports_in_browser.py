"""The report of a training and the comparison of two, recorded in MLflow, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from contract.model_registry import local_folder
from runner import cli
from runner.commands.models.comparison_page import comparison_page, write_comparison
from runner.commands.models.model_comparison import PLOTS, ComparedProperty, compare, compared_plots
from runner.errors import RunnerError
from runner.records import registry
from runner.records.run_report import REPORT
from runner.records.tracking import record
from tests.browser import CHROMIUM, page
from tests.modelling import REGRESSOR, make_recipe
from tests.trainings import train


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return the project's settings, its client and the ids of two recorded runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").mkdir()
    recipe = make_recipe(folder / "recipes" / "m.yaml", more='slices: ["activity:country"]\n')
    more = {"estimator": REGRESSOR, "scoring": "r2", "task": "regression"}
    other = make_recipe(folder / "recipes" / "n.yaml", **more)
    trainings = [train(folder, each) for each in (recipe, other)]
    client = registry.connect(trainings[0].prepared.settings)
    runs = []
    for number, training in enumerate(trainings):
        artifacts = folder / str(number)
        artifacts.mkdir()
        runs.append(record(client, training, artifacts)[0])
    return trainings[0], client, runs


def artifact(client, run, name):
    return local_folder(client.get_run(run).info.artifact_uri) / name


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_without_network_shows_the_report_light_dark_and_printed(world, tmp_path):
    training, client, [run, _] = world
    report = artifact(client, run, REPORT)
    score = f"{training.model.evaluation.test['roc_auc']:.4f}"
    with page(tmp_path) as shown:
        shown.open(report.as_uri())
        for text in (score, "0.7000 to 0.9000", "activity__country", "spine_data.spine_y"):
            shown.wait_for(text)
        shown.picture(tmp_path / "light.png")
        shown.dark()
        shown.picture(tmp_path / "dark.png")
        assert shown.printed().startswith(b"%PDF")
        assert shown.problems == []
    light, dark = ((tmp_path / f"{name}.png").read_bytes() for name in ("light", "dark"))
    assert min(len(light), len(dark)) > 30_000
    assert light != dark


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_shows_two_runs_side_by_side(world, tmp_path):
    training, _, runs = world
    settings, file = training.prepared.settings, tmp_path / "both.html"
    write_comparison(settings, compare(settings, *runs), tuple(runs), file)
    with page(tmp_path) as shown:
        shown.open(file.as_uri())
        for text in ("What differs", "regression", "roc_auc", "r2", f"{runs[1]}: not recorded"):
            shown.wait_for(text)
        shown.picture(tmp_path / "both.png")
        assert shown.problems == []


def test_every_plot_of_both_tasks_can_be_compared(world):
    training, client, runs = world
    drawn = {path.stem for run in runs for path in artifact(client, run, "plots").iterdir()}
    assert drawn <= set(PLOTS)
    found = compared_plots(training.prepared.settings, *runs)
    assert found.keys() == drawn
    assert found["roc"][1] is None
    assert found["importance"][0] != found["importance"][1]


def test_a_page_escapes_what_is_compared():
    attack = '<img src=x onerror="alert(1)">'
    rows = [ComparedProperty("recipe", attack, attack, None)]
    rows += [ComparedProperty("metrics", f"{part}_f1", 0.5, None) for part in ("train", "test")]
    text = comparison_page(rows, (attack, attack), {})
    assert "<img" not in text
    assert text.count("&lt;img") > 5
    assert "0.5000" in text


def test_a_file_that_cannot_be_written_is_named(world, tmp_path):
    training, _, runs = world
    settings, file = training.prepared.settings, tmp_path / "none" / "both.html"
    with pytest.raises(RunnerError, match=r"both\.html: cannot be written: No such file"):
        write_comparison(settings, compare(settings, *runs), tuple(runs), file)


def test_compare_writes_the_page_and_prints_the_table(world, tmp_path, monkeypatch):
    training, _, [run, _] = world
    settings = training.prepared.settings
    monkeypatch.setattr(cli.model_commands, "load_settings", lambda _: settings)
    file = tmp_path / "same.html"
    done = CliRunner().invoke(cli.app, ["compare", run, run, "--html", str(file)])
    assert done.stdout.splitlines()[-1] == "identical"
    assert "identical" in Path(file).read_text()
