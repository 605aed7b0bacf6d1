"""The story of `runner train`: from a recipe to a registered ML model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.builds.built_sql import build_sql, require_fit
from runner.commands.builds.exposures import write_exposures
from runner.commands.builds.recorded_definitions import recorded_definitions
from runner.commands.training.argument_verdicts import require_arguments
from runner.commands.training.background_imports import importing, let_threads_sleep
from runner.lineage.column_lineage import load_column_lineage
from runner.recipes.recipe import load_recipe
from runner.records.served_versions import retire
from runner.servers.local_servers import require_servers
from runner.servers.tracking_server import require_tracking_server
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.commands.training.training_acts import Registered
    from runner.modelling.slices import SliceSummary
    from runner.recipes.recipe import Recipe
    from runner.records.run_record import JudgedModel

# What training needs after dbt, in the order it needs it. Together they take as long to import
# as dbt takes to build, so they are imported meanwhile.
_HEAVY = ("runner.commands.training.training_acts",)


@dataclass(frozen=True)
class TrainingResult:
    """What `runner train` produced.

    Attributes
    ----------
    scores
        Scorer name → (score on training rows, score on test rows).
    intervals
        Scorer name → the 95 % interval of the score on test rows.
    decision_threshold
        From which probability on the second class is predicted; None: the most probable is.
    slices
        Where the primary score is lowest, for each of the recipe's slices.
    refusals
        Why the model is only the challenger; empty when it became the champion.
    champion
        The version that was champion before; "" where there was none.
    """

    run_id: str
    registered_model_name: str
    version: str
    scores: dict[str, tuple[float, float]]
    intervals: dict[str, tuple[float, float]]
    decision_threshold: float | None
    slices: list[SliceSummary]
    refusals: tuple[str, ...]
    champion: str


def train(
    settings: Settings, path: Path, accepted: str = "", *, no_build: bool = False
) -> TrainingResult:
    """Build the SQL, join features point-in-time, tune, fit, evaluate, record, register.

    Parameters
    ----------
    accepted
        Why features may change under a served version, which is retired then; empty: they must not.
    no_build
        Take the tables as they are; without it dbt builds them, unless that would change nothing.

    Raises
    ------
    RunnerError
        If anything named in the recipe, the SQL, the data or the environment is not as it must
        be. Nothing is registered then.
    """
    now, recipe = datetime.now(UTC), load_recipe(path)
    let_threads_sleep()
    require_arguments(settings, recipe)
    with importing(*_HEAVY, *(["runner.modelling.study"] if recipe.tuning else [])):
        require_fit(settings, recipe)
        require_servers(settings)
        require_tracking_server(settings)
        built = build_sql(settings, recipe, accepted, no_build=no_build)
        columns = load_column_lineage(built.manifest.path)  # now: another dbt may write it later
        definitions = recorded_definitions(settings, built.manifest, recipe)

    from runner.commands.training.training_acts import BuiltProject, fit_and_judge, prepare, record
    from runner.records import registry
    from runner.records.dead_runs import end_dead_runs
    from runner.records.run_record import Training

    client = registry.connect(settings)
    end_dead_runs(client)
    reason = accepted if retire(client, (one.version for one in built.changed), accepted) else ""
    project = BuiltProject(
        built.manifest, columns, definitions, built.billed, reason, built.left_out
    )
    prepared, store = prepare(settings, recipe, project, client, now)
    model = fit_and_judge(prepared, client, store)
    registered = record(client, Training(prepared, model))
    write_exposures(settings)
    return _result(recipe, model, registered)


def _result(recipe: Recipe, model: JudgedModel, registered: Registered) -> TrainingResult:
    from runner.modelling.slices import summaries

    scores, names = model.evaluation, recipe.scoring
    return TrainingResult(
        run_id=registered.run_id,
        registered_model_name=recipe.registered_model_name,
        version=registered.version,
        scores={name: (scores.train[name], scores.test[name]) for name in names},
        intervals={name: (i.low, i.high) for name, i in model.intervals.items()},
        decision_threshold=model.served.threshold,
        slices=summaries(model.slices, names[0]),
        refusals=registered.refusals,
        champion=model.comparison.version,
    )
