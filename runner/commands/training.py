"""The story of `runner train`: from a recipe to a registered ML model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from runner import console
from runner.bytes_billed import read_bill
from runner.commands.background_imports import importing
from runner.commands.built_sql import build_sql
from runner.commands.exposures import write_exposures
from runner.lineage.column_lineage import load_column_lineage
from runner.recipes.recipe import load_recipe
from runner.servers.local_servers import require_servers
from runner.servers.tracking_server import require_tracking_server
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.modelling.slices import SliceSummary

# What training needs after dbt, in the order it needs it. Together they take as long to import
# as dbt takes to build, so they are imported meanwhile.
_HEAVY = (
    "runner.feature_store.store",
    "runner.modelling.training_data",
    "runner.modelling.fitted_model",
    "runner.modelling.tuning_search",
    "runner.modelling.evaluation",
    "runner.modelling.slices",
    "runner.records.tracking",
)


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


def train(settings: Settings, path: Path) -> TrainingResult:
    """Build the SQL, join features point-in-time, tune, fit, evaluate, record, register.

    Raises
    ------
    RunnerError
        If anything named in the recipe, the SQL, the data or the environment is not as it must
        be. Nothing is registered then.
    """
    started_at = datetime.now(UTC)
    recipe = load_recipe(path)
    require_servers(settings)
    require_tracking_server(settings)
    with importing(*_HEAVY, *(["runner.modelling.study"] if recipe.tuning else [])):
        manifest, billed = build_sql(settings, recipe)
        columns = load_column_lineage(manifest.path)  # now: another dbt may write it later

    from runner.commands.champion_comparison import compare_with_champion
    from runner.feature_store.store import apply_recipe, open_store, recipe_features, spine_job
    from runner.modelling.contender import Contender, score_intervals
    from runner.modelling.evaluation import as_served, evaluate
    from runner.modelling.fitted_model import fit_model
    from runner.modelling.slices import score_slices, summaries
    from runner.modelling.training_data import load_training_data, split_labels
    from runner.modelling.tuning_search import tune
    from runner.packaging.served_model import class_list, served_model
    from runner.recipes.arguments import build_estimator, fitting
    from runner.records import tracking
    from runner.records.run_record import Training

    build_estimator(recipe)  # wrong init_args are told before the join, not after it
    spine, features = manifest.spines[recipe.spine], recipe_features(recipe, manifest)
    client = tracking.connect(settings)
    tracking.refuse_other_interface(client, recipe, spine)

    with console.step("split the spine's rows by time") as step:  # before the join, which costs
        store = open_store(settings)
        rows = spine_job(store.config, spine, recipe.label).to_arrow()
        billed |= read_bill("split", rows.schema.metadata)
        labels = split_labels(recipe, spine, rows)
        step.update(", ".join(f"{len(y):,} {name}" for name, y in labels.items()))

    with console.step("feast: apply definitions, join features point-in-time") as step:
        apply_recipe(store, manifest, recipe)
        data = load_training_data(store, recipe, spine, features)
        step.update(f"{data.table.num_rows:,} rows × {len(features)} features")

    tuned = tune(settings, recipe, data)

    with console.step(fitting(recipe)) as step:
        pipeline = fit_model(recipe.with_arguments(tuned.arguments), data)
        fitted = [f"{len(rows.y):,} {name} rows" for name, rows in data.parts.items()]
        step.update(", ".join(fitted[:-1]))

    with console.step("evaluate on held-out rows") as step:
        served, classes = served_model(pipeline, data.test.X), class_list(pipeline)
        predictions = served.answer(data.test.X)
        evaluation = evaluate(
            recipe,
            as_served(served.answer(data.train.X), classes, data.train.y),
            as_served(predictions, classes, data.test.y),
        )
        step.update(f"{len(data.test.y):,} test rows; {served.proof}")

    with console.step("bootstrap: intervals of scores, comparison with the champion") as step:
        contender = Contender(
            recipe.registered_model_name,
            recipe.scoring[0],
            spine,
            data,
            predictions,
            classes,
        )
        intervals = score_intervals(contender, recipe.scoring)
        comparison = compare_with_champion(settings, client, store, manifest, contender)
        step.update(comparison.summary)

    slices = score_slices(recipe, contender)

    with console.step("mlflow: record and register") as step, TemporaryDirectory() as folder:
        training = Training(
            settings,
            manifest,
            recipe,
            store.project,
            spine,
            features,
            data,
            tuned,
            pipeline,
            evaluation,
            served,
            comparison,
            intervals,
            slices,
            started_at,
            columns,
            billed,
        )
        run_id, bundle_sha256 = tracking.record(client, training, Path(folder))
        version = tracking.register(client, run_id, bundle_sha256, training)
        refusals = tracking.award(client, training, version)
        step.update(f"{recipe.registered_model_name} version {version}")
    write_exposures(settings)
    return TrainingResult(
        run_id=run_id,
        registered_model_name=recipe.registered_model_name,
        version=version,
        scores={name: (evaluation.train[name], evaluation.test[name]) for name in recipe.scoring},
        intervals={name: (i.low, i.high) for name, i in intervals.items()},
        decision_threshold=served.threshold,
        slices=summaries(slices, recipe.scoring[0]),
        refusals=refusals,
        champion=comparison.version,
    )
