"""Finished trainings in projects of their own, recorded and registered in MLflow."""

import copy
import dataclasses
from pathlib import Path

from runner.records import tracking
from tests.mlflow_database import put_mlflow_database
from tests.trainings import changed, project


def moved(finished, folder):
    """Return the training as that of a project in `folder`, which may be changed."""
    settings = project(folder)
    if not (folder / "mlruns").exists():
        put_mlflow_database(folder)
    manifest = dataclasses.replace(finished.prepared.manifest, path=folder / "manifest.json")
    pipeline = copy.deepcopy(finished.model.pipeline)
    return changed(finished, settings=settings, manifest=manifest, pipeline=pipeline)


def registered(client, training, folder):
    run_id, digest = tracking.record(client, training, folder)
    return run_id, tracking.register(client, run_id, digest, training)


def aliases(client):
    found = client.get_registered_model("m").aliases
    return {alias: str(version) for alias, version in found.items()}


def bundle_of(run):
    return Path(run.info.artifact_uri.removeprefix("file://")) / "serving_bundle"
