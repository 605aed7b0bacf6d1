"""A model version ready to answer, with what is computed once per model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from contract.bundle import Bundle
from contract.bundle_reader import read_bundle
from contract.computation import Computation, computation_of
from contract.explainer import Explainer, load_explainer
from contract.missing_views import MissingViews
from contract.model_registry import ModelVersion, Source
from contract.scoring import Model, load_model
from serving.features.online import OnlineFormat
from serving.features.overrides import FeatureOverrides
from serving.features.request_inputs import RequestInputs


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer, with what is computed once per model.

    Attributes
    ----------
    class_names
        The keys of `probabilities`; empty for a regression.
    explainer
        Explains answers; None if requests may not ask for it.
    """

    name: str
    version: ModelVersion
    bundle: Bundle
    model: Model
    online: OnlineFormat
    overrides: FeatureOverrides
    request: RequestInputs
    missing: MissingViews
    computation: Computation
    class_names: tuple[str, ...]
    explainer: Explainer | None
    loaded_at: datetime


def load(source: Source, version: ModelVersion) -> Loaded:
    """Return the version's model, its bundle checked.

    Raises
    ------
    BundleError
        If the bundle fails its check.
    RegistryError
        If it cannot be fetched.
    """
    with source.bundle(version) as folder:
        bundle = read_bundle(folder, version.bundle_sha256)
        model = load_model(bundle)
        explained = bundle.explanation is not None and bundle.explanation.in_requests
        explainer = load_explainer(bundle, model) if explained else None
    return Loaded(
        name=version.name or bundle.registered_model_name,
        version=version,
        bundle=bundle,
        model=model,
        online=OnlineFormat(bundle),
        overrides=FeatureOverrides(bundle),
        request=RequestInputs(bundle),
        missing=bundle.missing_views,
        computation=computation_of(bundle),
        class_names=tuple(map(str, bundle.label.classes or ())),
        explainer=explainer,
        loaded_at=datetime.now(UTC),
    )
