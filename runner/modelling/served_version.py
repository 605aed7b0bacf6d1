"""A registered version's model, loaded from its serving bundle as the API loads it."""

from __future__ import annotations

from runner.settings import Settings
from serving.bundle import read_bundle
from serving.registry import open_source
from serving.scoring import Model, load_model


def load_version(settings: Settings, model_uri: str) -> tuple[Model, str]:
    """Return the model of `models:/<name>@<alias>` or `models:/<name>/<version>`, and its version.

    Every file is held against its registered digest first, and nothing is unpickled.

    Raises
    ------
    ServingError
        If the registry has no such version, or its bundle is not what was registered.
    """
    origin = open_source(model_uri, settings.mlflow_tracking_uri, settings.env)
    version = origin.resolve()
    with origin.bundle(version) as folder:
        return load_model(read_bundle(folder, version.bundle_sha256)), version.version
