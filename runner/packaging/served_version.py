"""A registered version's model, loaded from its serving bundle as the API loads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from contract.bundle import Bundle
from contract.bundle_reader import read_bundle
from contract.explainer import Explainer, load_explainer
from contract.model_registry import open_source
from contract.scoring import Model, load_model
from runner.errors import RunnerError
from runner.project.manifest import FeatureMart
from runner.settings import Settings


def load_version(settings: Settings, model_uri: str) -> tuple[Model, str]:
    """Return the model of `models:/<name>@<alias>` or `models:/<name>/<version>`, and its version.

    Every file is held against its registered digest first, and nothing is unpickled.

    Raises
    ------
    ServingError
        If the registry has no such version, or its bundle is not what was registered.
    """
    with _opened(settings, model_uri) as (bundle, version):
        return load_model(bundle), version


def load_explained_version(settings: Settings, model_uri: str) -> tuple[Model, Explainer, str]:
    """Return a model, what explains it, and its version; see `load_version`.

    Raises
    ------
    RunnerError
        If nothing explains it.
    ServingError
        As `load_version`.
    """
    with _opened(settings, model_uri) as (bundle, version):
        model = load_model(bundle)
        explainer = load_explainer(bundle, model)
    if explainer is None:
        name = f"{bundle.registered_model_name} version {version}"
        if bundle.explanation is None:
            raise RunnerError(
                f"{name} was trained by an earlier release, without explanations",
                hint="train again, or leave out --explain",
            )
        raise RunnerError(
            f"{name} cannot be explained: {bundle.explanation.unavailable}",
            hint="leave out --explain, or choose a linear model or trees in the recipe",
        )
    return model, explainer, version


@contextmanager
def _opened(settings: Settings, model_uri: str) -> Iterator[tuple[Bundle, str]]:
    origin = open_source(model_uri, settings.mlflow_tracking_uri, settings.env)
    version = origin.resolve()
    with origin.bundle(version) as folder:
        yield read_bundle(folder, version.bundle_sha256), version.version


def require_features(bundle: Bundle, marts: Mapping[str, FeatureMart], model: str) -> None:
    """Return if dbt still has every feature that the bundle's model takes.

    Parameters
    ----------
    marts
        dbt's feature marts by name.
    model
        How to name the model version.

    Raises
    ------
    RunnerError
        Naming the first that is gone.
    """
    for feature in bundle.features:
        mart = marts.get(feature.view)
        if mart is None or all(column.name != feature.feature for column in mart.features):
            raise RunnerError(
                f"{model} takes {feature.view}:{feature.feature}, which dbt does not have",
                hint="bring it back and run `dbt build`, or train a version without it and "
                "`runner promote` that",
            )
