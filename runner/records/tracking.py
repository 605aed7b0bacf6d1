"""MLflow: runs, the registry's versions and the champion alias.

A version is created when its run is completely recorded, and an alias is moved last. A process
killed before `register` leaves a run without a version; one killed between `register` and the end
of `award` leaves a whole version without an alias, which `runner promote NAME VERSION` can still
make the champion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH

from runner.errors import RunnerError
from runner.records.dead_runs import this_process
from runner.records.logged_model import log_model
from runner.records.registry import CHALLENGER, CHAMPION, promote, version_with, versions_of
from runner.records.run_artifacts import write_artifacts
from runner.records.run_description import description, shown_tags
from runner.records.run_record import Training
from runner.records.trial_runs import record_trials

if TYPE_CHECKING:
    from runner.project.manifest import Spine
    from runner.recipes.recipe import Recipe
    from runner.settings import Settings

_INTERFACE_TAG = "serving_interface"
# MLflow opens the experiment on its runs, and not on traces of language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


def refuse_other_interface(client: MlflowClient, recipe: Recipe, spine: Spine) -> None:
    """Raise if the recipe's model name is registered for another task, label, keys or inputs.

    Its callers send these keys and request inputs and read this label; a new version must not break
    them.

    Raises
    ------
    RunnerError
        Naming both interfaces.
    """
    wanted = _interface(recipe, spine)
    for version in versions_of(client, recipe.registered_model_name)[:1]:
        existing = version.tags.get(_INTERFACE_TAG, "one that runner did not write")
        if existing != wanted:
            raise RunnerError(
                f"{recipe.path}: registered_model_name: {recipe.registered_model_name!r} exists "
                f"with another schema: version {version.version} is {existing}; this recipe is "
                f"{wanted}",
                hint="choose another registered_model_name",
            )


def record(client: MlflowClient, training: Training, folder: Path) -> tuple[str, str]:
    """Record the training as a finished run; return its id and its serving bundle's sha256.

    Parameters
    ----------
    folder
        An empty folder for the artifacts while they are written.
    """
    run = client.create_run(
        _experiment(client, training.prepared.settings, training.recipe.experiment_name),
        start_time=int(training.prepared.started_at.timestamp() * 1000),
        run_name=f"{training.recipe.name} {training.prepared.started_at:%Y-%m-%d %H:%M}",
        tags={**training.tags, **shown_tags(training), **this_process()},
    )
    run_id: str = run.info.run_id
    with _ending(client, run_id):
        bundle_sha256 = write_artifacts(training, run_id, folder)
        _log_params(client, run_id, training.params)
        now = int(datetime.now(UTC).timestamp() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in training.metrics.items()]
        client.log_batch(run_id, metrics=metrics)
        client.log_inputs(run_id, [DatasetInput(_dataset(training))])
        client.log_artifacts(run_id, str(folder))
        log_model(run_id, training)
        record_trials(client, run.info, training)
    return run_id, bundle_sha256


def register(client: MlflowClient, run_id: str, bundle_sha256: str, training: Training) -> str:
    """Register the run's model as a new version; return the version's number."""
    name = training.recipe.registered_model_name
    try:
        client.create_registered_model(name, description=training.recipe.description)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
    version = client.create_model_version(
        name,
        source=client.get_logged_model(model_id).artifact_location,
        run_id=run_id,
        model_id=model_id,
        description=description(training),
        tags={
            _INTERFACE_TAG: _interface(training.recipe, training.prepared.spine),
            "serving_bundle_sha256": bundle_sha256,
            **training.verdict,
        },
    )
    return str(version.version)


def award(client: MlflowClient, training: Training, version: str) -> tuple[str, ...]:
    """Make the new version the champion or, if anything refuses it, the challenger.

    Returns
    -------
    tuple of str
        Why it is only the challenger; empty if it is the champion.
    """
    name, refusals = training.recipe.registered_model_name, training.refusals
    present = version_with(client, name, CHAMPION)
    moved = str(present.version) if present else ""
    if not refusals and moved != training.model.comparison.version:
        # Another training or a person was quicker: this one was compared with another model.
        refusals = (f"the champion became version {moved} while this model was trained",)
        client.set_model_version_tag(name, version, "gate", "refused")
        client.set_model_version_tag(name, version, "gate_reason", refusals[0])
    if refusals:
        client.set_registered_model_alias(name, CHALLENGER, version)
    else:
        promote(client, name, version)
    return refusals


def _interface(recipe: Recipe, spine: Spine) -> str:
    keys = ", ".join(f"{key} {spine.columns[key].dtype}" for key in sorted(spine.join_keys))
    given = (f"{name} {spine.columns[name].dtype}" for name in sorted(recipe.request))
    sent = f" with {', '.join(given)}" if recipe.request else ""
    return f"{recipe.task} of {recipe.label} by {keys or 'no entity'}{sent}"


def _experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = None
        if settings.mlflow_tracking_uri.startswith("sqlite:///"):
            location = (settings.root / "mlruns" / name).as_uri()
        return str(client.create_experiment(name, location, _KIND))
    if experiment.lifecycle_stage != "active":
        raise RunnerError(
            f"MLflow experiment {name!r} is deleted",
            hint=f"run `mlflow experiments restore -x {experiment.experiment_id}`, or choose "
            "another experiment_name in the recipe",
        )
    for key, kind in _KIND.items():
        if key not in experiment.tags:  # an earlier version made it
            client.set_experiment_tag(experiment.experiment_id, key, kind)
    return str(experiment.experiment_id)


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, object]) -> None:
    """Log the parameters in the largest batches that MLflow takes: each call is a transaction."""
    every = [Param(name, str(value)) for name, value in params.items()]
    for start in range(0, len(every), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=every[start : start + MAX_PARAMS_TAGS_PER_BATCH])


@contextmanager
def _ending(client: MlflowClient, run_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException as err:  # Ctrl-C too: an open run would look alive for ever
        client.set_terminated(run_id, "KILLED" if isinstance(err, KeyboardInterrupt) else "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _dataset(training: Training) -> Dataset:
    return Dataset(
        name=training.prepared.spine.name,
        digest=training.lineage["dataset_sha256"][:36],
        source_type="dbt",
        source=training.lineage["spine"],
    )
