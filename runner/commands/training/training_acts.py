"""The three acts of `runner train`: prepare rows, fit and judge a model, record and register it."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from feast import FeatureStore
from mlflow import MlflowClient

from runner import console
from runner.bytes_billed import Billed, read_bill
from runner.commands.training.champion_comparison import compare_with_champion
from runner.commands.training.duplicate_keys import refuse_duplicates
from runner.feature_store.store import (
    apply_recipe,
    open_store,
    recipe_features,
    request_inputs,
    spine_job,
    training_table,
)
from runner.lineage.feature_definitions import FeatureDefinitions
from runner.lineage.lineage_graph import Lineage
from runner.modelling.classes import class_warnings
from runner.modelling.contender import Contender, score_intervals
from runner.modelling.evaluation import as_served, evaluate
from runner.modelling.fitted_model import fit_model
from runner.modelling.slices import score_slices
from runner.modelling.training_data import load_training_data, split_labels, table_digest
from runner.modelling.tuning_search import tune
from runner.packaging.served_model import class_list, served_model
from runner.project.manifest import Manifest
from runner.recipes.arguments import build_estimator, fitting
from runner.recipes.computed_columns import computed_columns
from runner.recipes.recipe import Recipe
from runner.records import tracking
from runner.records.run_record import JudgedModel, PreparedRows, Training
from runner.settings import Settings


class BuiltProject(NamedTuple):
    """What dbt built for a recipe.

    Attributes
    ----------
    billed
        By BigQuery.
    accepted
        Why features that a served version takes were changed; empty if none was.
    left_out
        Why dbt built nothing; empty if dbt built.
    """

    manifest: Manifest
    columns: Lineage
    definitions: FeatureDefinitions
    billed: Mapping[str, Billed]
    accepted: str
    left_out: str = ""


class Registered(NamedTuple):
    """A registered version, and why it is only the challenger."""

    run_id: str
    version: str
    refusals: tuple[str, ...]


def prepare(
    settings: Settings, recipe: Recipe, built: BuiltProject, client: MlflowClient, now: datetime
) -> tuple[PreparedRows, FeatureStore]:
    """Return the recipe's training rows, joined and split, and the feature store they are from.

    What needs no join is checked before it: arguments, the registered interface, labels by time.
    """
    build_estimator(recipe)
    spine = built.manifest.spines[recipe.spine]
    features = recipe_features(recipe, built.manifest)
    request = request_inputs(recipe, spine)
    computed = computed_columns(recipe, built.manifest)
    tracking.refuse_other_interface(client, recipe, spine)
    store = open_store(settings)
    with console.step("split the spine's rows by time") as step:
        rows = spine_job(store.config, spine, recipe.label).to_arrow()
        labels = split_labels(recipe, spine, rows)
        step.update(", ".join(f"{len(y):,} {name}" for name, y in labels.items()))
    for warning in class_warnings(recipe, labels):
        console.warn(warning)
    billed = refuse_duplicates(settings, [built.manifest.marts[m] for m in recipe.feature_marts])
    with console.step("feast: apply definitions, join features point-in-time") as step:
        apply_recipe(store, built.manifest, recipe)
        table = training_table(store, recipe, spine, features)
        data = load_training_data(table, recipe, spine, features, computed)
        joined: dict[str, Sized] = {
            "features": features,
            "request inputs": request,
            "computed columns": computed,
        }
        step.update(f"{data.table.num_rows:,} rows × {_counted(joined)}")
    prepared = PreparedRows(
        settings=settings,
        manifest=built.manifest,
        recipe=recipe,
        feast_project=store.project,
        spine=spine,
        features=features,
        request=request,
        computed=computed,
        data=data,
        dataset_sha256=table_digest(data.table),
        started_at=now,
        columns=built.columns,
        definitions=built.definitions,
        accepted=built.accepted,
        left_out=built.left_out,
        billed={**built.billed, **read_bill("split", rows.schema.metadata), **billed},
    )
    return prepared, store


def _counted(joined: Mapping[str, Sized]) -> str:
    counts = {name: len(each) for name, each in joined.items() if each}
    return ", ".join(
        f"{count} {name if count > 1 else name.removesuffix('s')}" for name, count in counts.items()
    )


def fit_and_judge(prepared: PreparedRows, client: MlflowClient, store: FeatureStore) -> JudgedModel:
    """Return the fitted model, as it will be served, with its scores beside the champion's."""
    recipe, data = prepared.recipe, prepared.data
    tuned = tune(prepared.settings, recipe, data)
    with console.step(fitting(recipe)) as step:
        pipeline = fit_model(recipe.with_arguments(tuned.arguments), data)
        fitted = [f"{len(rows.y):,} {name} rows" for name, rows in data.parts.items()]
        step.update(", ".join(fitted[:-1]))
    with console.step("evaluate on held-out rows") as step:
        served, classes = served_model(pipeline, data.test.X), class_list(pipeline)
        predictions = served.answer(data.test.X)
        evaluation = evaluate(
            recipe,
            train=as_served(served.answer(data.train.X), classes, data.train.y),
            test=as_served(predictions, classes, data.test.y),
        )
        step.update(f"{len(data.test.y):,} test rows; {served.proof}")
    with console.step("bootstrap: intervals of scores, comparison with the champion") as step:
        contender = Contender(
            name=recipe.registered_model_name,
            scorer=recipe.scoring[0],
            spine=prepared.spine,
            data=data,
            predictions=predictions,
            classes=classes,
        )
        intervals = score_intervals(contender, recipe.scoring)
        comparison = compare_with_champion(
            prepared.settings, client, store, prepared.manifest, contender
        )
        step.update(comparison.summary)
    return JudgedModel(
        tuned=tuned,
        pipeline=pipeline,
        served=served,
        evaluation=evaluation,
        comparison=comparison,
        intervals=intervals,
        slices=score_slices(recipe, contender),
    )


def record(client: MlflowClient, training: Training) -> Registered:
    """Record the training as a run, register its version, and move an alias last."""
    name = training.recipe.registered_model_name
    with console.step("mlflow: record and register") as step, TemporaryDirectory() as folder:
        run_id, bundle_sha256 = tracking.record(client, training, Path(folder))
        version = tracking.register(client, run_id, bundle_sha256, training)
        refusals = tracking.award(client, training, version)
        step.update(f"{name} version {version}")
    return Registered(run_id, version, refusals)
