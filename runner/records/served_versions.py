"""The model versions with an alias, and the definitions of the features they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contract.bundle import DEFINITIONS
from contract.model_registry import BUNDLE_FOLDER
from contract.serving_errors import ServingError
from runner.errors import RunnerError
from runner.lineage.feature_definitions import Definitions
from runner.project.manifest import Manifest
from runner.records.run_facts import CHALLENGER, RETIRED, RunReader, VersionFacts
from runner.records.run_reader import open_reader, read_json
from runner.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class ServedFeature:
    """A feature as a served version takes it; `digest` is None before definitions were recorded."""

    view: str
    feature: str
    digest: str | None
    role: str = ""

    @property
    def name(self) -> str:
        """As Feast writes it."""
        return f"{self.view}:{self.feature}"

    @property
    def reference(self) -> str:
        """As a recipe writes it."""
        return f"{self.view}[{self.role}]:{self.feature}" if self.role else self.name


@dataclass(frozen=True)
class ServedVersion:
    """A model version with an alias.

    Attributes
    ----------
    is_retired
        Whether its features were changed on purpose.
    definitions
        None: it was trained before definitions were recorded, so nobody knows whether they changed.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    features: tuple[ServedFeature, ...]
    definitions: Definitions | None
    is_retired: bool = False

    @property
    def is_protected(self) -> bool:
        """Whether it may be answering: nobody serves a challenger before it is promoted."""
        return not self.is_retired and bool({*self.aliases} - {CHALLENGER})

    def __str__(self) -> str:
        return f"{self.name} version {self.version} ({', '.join(self.aliases)})"


def served_versions(settings: Settings, manifest: Manifest) -> list[ServedVersion]:
    """Return the versions with an alias that take this dbt project's features.

    Versions that cannot be read are left out: serving cannot read them either.

    Parameters
    ----------
    manifest
        dbt's: other projects may share the registry.

    Raises
    ------
    ServingError
        If the registry does not answer.
    """
    reader = open_reader(settings)
    versions = (each for name in reader.models() for each in reader.versions(name))
    found: list[ServedVersion] = []
    for version in versions:
        if version.aliases:
            found += _read(reader, version, manifest)
    return found


def trained_version(
    settings: Settings, manifest: Manifest, name: str, number: str
) -> ServedVersion | None:
    """Return one version, with an alias or without; None: as `served_versions` leaves it out."""
    reader = open_reader(settings)
    for version in reader.versions(name):
        if version.version == number:
            return next(_read(reader, version, manifest), None)
    return None


def retire(
    client: MlflowClient, versions: Iterable[ServedVersion], reason: str
) -> list[ServedVersion]:
    """Tag the versions that may be answering as retired; return them, each once.

    They are no longer protected, no new version is compared with them, and no rollback returns to
    them.
    """
    retired = list({str(version): version for version in versions if version.is_protected}.values())
    for version in retired:
        client.set_model_version_tag(version.name, version.version, RETIRED, reason)
    return retired


def _read(reader: RunReader, version: VersionFacts, manifest: Manifest) -> Iterator[ServedVersion]:
    try:
        run = reader.run(version.run_id)
        if run is None:
            return
        bundle = read_json(reader, run, f"{BUNDLE_FOLDER}/serving.json")
        if bundle["lineage"].get("dbt_project") != manifest.project_name:
            return
        definitions = None
        if DEFINITIONS in bundle["files"]:
            definitions = Definitions.load(read_json(reader, run, f"{BUNDLE_FOLDER}/{DEFINITIONS}"))
        features = tuple(_feature(each) for each in bundle["features"])
    except (RunnerError, ServingError, KeyError, TypeError, AttributeError):
        return  # another tool's, or its files are gone
    yield ServedVersion(
        version.name,
        version.version,
        version.aliases,
        features,
        definitions,
        is_retired=RETIRED in version.tags,
    )


def _feature(each: Mapping[str, Any]) -> ServedFeature:
    role = each.get("role", "")
    return ServedFeature(each["view"], each["feature"], each.get("definition"), role)
