"""The story of `runner reproduce`: a recorded training done again, and what comes out otherwise.

Nothing is registered, no alias moves and no MLflow run is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from runner import console
from runner.commands.training.background_imports import let_threads_sleep
from runner.commands.training.joined_rows import joined_rows
from runner.errors import RunnerError
from runner.project import dbt
from runner.project.manifest import Manifest, load_manifest
from runner.servers.local_servers import require_servers

if TYPE_CHECKING:
    import pyarrow as pa

    from runner.commands.models.reproduction_account import Line
    from runner.records.recorded_run import RecordedRun
    from runner.settings import Settings


@dataclass(frozen=True)
class Reproduction:
    """What came out of a training done again.

    Attributes
    ----------
    lines
        Code, SQL, environment, rows and scores, as recorded and as of now.
    account
        What differs in the SQL, the rows and the scores, a sentence each.
    reproduced
        Whether the rows joined now and the scores are the recorded ones.
    """

    run_id: str
    reproduced: bool
    lines: list[Line]
    account: list[str]


def reproduce(settings: Settings, reference: str) -> Reproduction:
    """Join the run's rows again, fit its recipe on the recorded rows, and compare both.

    Parameters
    ----------
    reference
        `NAME@ALIAS`, `NAME/VERSION` or the id of a run.

    Raises
    ------
    RunnerError
        If there is no such run, it lacks what `runner train` records, or scikit-learn cannot fit
        the recorded rows any more. That its rows cannot be joined is a part of the account.
    """
    require_servers(settings)
    let_threads_sleep()
    with console.step("mlflow: read what the run recorded") as step:
        from runner.records import registry
        from runner.records.find_run import find_run
        from runner.records.recorded_run import read_run
        from runner.records.run_reader import open_reader

        run_id = find_run(open_reader(settings), reference).run_id
        client = registry.connect(settings)
        recorded = read_run(client, client.get_run(run_id))
        step.update(f"run {recorded.run_id}, {recorded.rows.num_rows:,} rows")

    from runner.commands.models import reproduction_account as told
    from runner.records.git_checkout import git_commit

    table, reason = _join_again(settings, recorded)
    manifest = _manifest_now(settings, joined=table is not None)
    code = told.code_lines(recorded, git_commit(settings), manifest)
    data = told.data_lines(recorded, table)
    results = told.score_lines(recorded, _fit_again(recorded))
    return Reproduction(
        run_id=recorded.run_id,
        reproduced=all(line.same for line in (*data, *results)),
        lines=[*code, *data, *results],
        account=[
            *told.code_account(code),
            *told.data_account(recorded, table, reason),
            *told.score_account(recorded, code, results),
        ],
    )


def _join_again(settings: Settings, recorded: RecordedRun) -> tuple[pa.Table | None, str]:
    """Return the run's rows as dbt and Feast join them now, or None and why they cannot."""
    try:
        table = joined_rows(settings, recorded.recipe)
    except RunnerError as err:
        return None, " ".join(err.message.split())
    return table, ""


def _manifest_now(settings: Settings, *, joined: bool) -> Manifest | None:
    """Return what dbt knows of the project as it is now; None if dbt cannot read it."""
    try:
        if not joined:  # whatever failed, the manifest may be older than the SQL
            dbt.run(settings, ["parse"], lambda _: None)
        return load_manifest(settings.manifest_path)
    except RunnerError:
        return None


def _fit_again(recorded: RecordedRun) -> dict[str, float]:
    """Return scores and threshold, by metric, of the recipe fitted on the recorded rows."""
    from runner.modelling.evaluation import Judged, as_served, evaluate
    from runner.modelling.fitted_model import fit_model, threshold_metric
    from runner.modelling.training_data import split_rows
    from runner.packaging.served_model import class_list, served_model
    from runner.recipes.arguments import fitting

    recipe = recorded.recipe
    with console.step(fitting(recipe)) as step:
        # That the embargo is no shorter than the label window was checked then.
        data = split_rows(recipe, recorded.rows, recorded.inputs, label_window=timedelta(0))
        pipeline = fit_model(recipe, data)
        step.update(f"{len(data.train.y):,} recorded training rows")
    with console.step("evaluate on held-out rows"):
        judged = [Judged(pipeline, *rows) for rows in (data.train, data.test)]
        if recorded.scored_as_served:
            served, classes = served_model(pipeline, data.test.X), class_list(pipeline)
            judged = [as_served(served.answer(X), classes, y) for X, y in (data.train, data.test)]
        evaluation = evaluate(recipe, *judged)
    return {
        **{f"train_{name}": score for name, score in evaluation.train.items()},
        **{f"test_{name}": score for name, score in evaluation.test.items()},
        **threshold_metric(pipeline),
    }
