"""Find the serving bundle of a model: in MLflow's registry without MLflow, or in a folder.

MLflow's own client takes seven seconds and 300 MB to import. What serving needs of it is two
questions (which version has the alias, where are its run's artifacts) and one download.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from contract.bundle import MANIFEST
from contract.mlflow_http import MlflowServer
from contract.serving_errors import BundleError, ConfigurationError, RegistryError
from contract.unknown_model import not_registered

BUNDLE_FOLDER = "serving_bundle"
DIGEST_TAG = "serving_bundle_sha256"
_MODEL_URI = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    Attributes
    ----------
    artifact_uri
        Where its run's artifacts lie; a folder source's own folder.
    bundle_sha256
        What `serving.json` must hash to.
    """

    name: str
    version: str
    artifact_uri: str
    bundle_sha256: str


class Source(Protocol):
    """Where bundles come from."""

    def resolve(self) -> ModelVersion:
        """Return the version to serve now. Raises RegistryError."""

    def bundle(self, version: ModelVersion) -> AbstractContextManager[Path]:
        """Return a context whose value is the folder that holds the version's bundle."""


@dataclass(frozen=True)
class ModelUri:
    """`models:/<name>@<alias>` or `models:/<name>/<version>`; the other of the two is ""."""

    name: str
    alias: str
    version: str

    def not_found(self, versions: Iterable[str], aliases: Mapping[str, str]) -> RegistryError:
        """Return the error for a version that a registered model does not have.

        Parameters
        ----------
        versions
            The versions that it has.
        aliases
            Alias → version.
        """
        wanted = f"version with alias {self.alias!r}" if self.alias else f"version {self.version}"
        known = sorted(versions, key=int)
        hint = "it has no version: run `runner train` with its recipe"
        if known:
            hint = f"versions: {', '.join(known)}"
            named = ", ".join(f"{alias} ({of})" for alias, of in sorted(aliases.items()))
            hint += f"; aliases: {named or 'none'}"
        if known and self.alias == "champion":
            candidate = aliases.get("challenger", known[-1])
            hint = (
                f"`runner promote {shlex.quote(self.name)} {candidate}` makes version {candidate} "
                "the champion, whatever its gate said; or train one that passes"
            )
        return RegistryError(f"registered model {self.name!r} has no {wanted}", hint=hint)


def open_source(model_uri: str, tracking_uri: str, env: Mapping[str, str]) -> Source:
    """Return the source of `models:/<name>@<alias>`, `models:/<name>/<version>` or a folder.

    Parameters
    ----------
    tracking_uri
        MLflow's `sqlite:///…` database, read-only, or `http(s)://…` server.
    env
        Read for MLflow's own variables of login and TLS.

    Raises
    ------
    ConfigurationError
        If either address is of no known form.
    """
    if not model_uri.startswith("models:"):
        return FolderSource(Path(model_uri))
    match = _MODEL_URI.fullmatch(model_uri)
    if match is None:
        raise ConfigurationError(
            f"{model_uri!r} is not a model",
            hint="write models:/<name>@champion, models:/<name>/<version> or a bundle's folder",
        )
    uri = ModelUri(match["name"], match["alias"] or "", match["version"] or "")
    if tracking_uri.startswith("sqlite:///"):
        return SqliteSource(Path(tracking_uri.removeprefix("sqlite:///")), uri)
    if tracking_uri.startswith(("http://", "https://")):
        if "@" in urlsplit(tracking_uri).netloc:
            raise ConfigurationError(
                "MLFLOW_TRACKING_URI holds a user name or password",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
            )
        return HttpSource(MlflowServer(tracking_uri, env), uri)
    raise ConfigurationError(
        f"MLFLOW_TRACKING_URI: {urlsplit(tracking_uri).scheme or 'no'}:// is not supported for "
        "serving",
        hint="use sqlite:///… or an http(s):// MLflow server",
    )


class FolderSource:
    """A bundle in a folder; its digest serves as the version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def resolve(self) -> ModelVersion:
        """See `Source`."""
        path = self._folder / MANIFEST
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as err:
            raise RegistryError(
                f"{path}: cannot be read ({err.strerror})", hint="name the folder of a bundle"
            ) from err
        return ModelVersion("", digest[:12], str(self._folder), digest)

    @contextmanager
    def bundle(self, version: ModelVersion) -> Iterator[Path]:
        """See `Source`."""
        yield Path(version.artifact_uri)


class SqliteSource:
    """MLflow's SQLite database, read with the standard library."""

    _VERSION = """
        select v.name, v.version, r.artifact_uri, t.value
        from model_versions v
        join runs r on r.run_uuid = v.run_id
        left join model_version_tags t on t.name = v.name and t.version = v.version and t.key = ?
        where v.name = ? and v.current_stage <> 'Deleted_Internal' and v.version = """
    _BY_NUMBER = _VERSION + "cast(? as integer)"
    _BY_ALIAS = _VERSION + (
        "(select version from registered_model_aliases a where a.name = v.name and a.alias = ?)"
    )
    _VERSIONS = """
        select version from model_versions where name = ? and current_stage <> 'Deleted_Internal'"""
    _ALIASES = "select alias, version from registered_model_aliases where name = ?"
    _NAMES = "select name from registered_models order by name"

    def __init__(self, path: Path, uri: ModelUri) -> None:
        self._path = path.resolve()
        self._uri = uri

    def resolve(self) -> ModelVersion:
        """See `Source`."""
        query = self._BY_ALIAS if self._uri.alias else self._BY_NUMBER
        wanted = (DIGEST_TAG, self._uri.name, self._uri.alias or self._uri.version)
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as database:
                row = database.execute(query, wanted).fetchone()
                if row is None:
                    raise self._missing(database)
        except sqlite3.Error as err:
            raise RegistryError(
                f"{self._path}: MLflow's database cannot be read ({err})",
                hint="check MLFLOW_TRACKING_URI, or train a model first",
            ) from err
        return _version(str(row[0]), str(row[1]), row[2], row[3])

    def _missing(self, database: sqlite3.Connection) -> RegistryError:
        name = self._uri.name
        names = [known for (known,) in database.execute(self._NAMES)]
        if name not in names:
            return not_registered(name, names)
        versions = [str(number) for (number,) in database.execute(self._VERSIONS, [name])]
        aliases = {alias: str(of) for alias, of in database.execute(self._ALIASES, [name])}
        return self._uri.not_found(versions, aliases)

    @contextmanager
    def bundle(self, version: ModelVersion) -> Iterator[Path]:
        """See `Source`."""
        yield local_folder(version.artifact_uri) / BUNDLE_FOLDER


class HttpSource:
    """An MLflow server: its REST API, and its artifact proxy for the download."""

    def __init__(self, server: MlflowServer, uri: ModelUri) -> None:
        self._server = server
        self._uri = uri

    def resolve(self) -> ModelVersion:
        """See `Source`."""
        if self._uri.alias:
            found = self._server.get(
                "registered-models/alias", name=self._uri.name, alias=self._uri.alias
            )
        else:
            found = self._server.get(
                "model-versions/get", name=self._uri.name, version=self._uri.version
            )
        if found is None:
            raise self._missing()
        version = found["model_version"]
        run = self._server.get("runs/get", run_id=version["run_id"])
        if run is None:
            raise RegistryError(
                f"run {version['run_id']} of {version['name']} {version['version']} is gone",
                hint="move the alias to another version, or train again",
            )
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
        return _version(
            version["name"],
            version["version"],
            run["run"]["info"]["artifact_uri"],
            tags.get(DIGEST_TAG),
        )

    def _missing(self) -> RegistryError:
        found = self._server.get("registered-models/get", name=self._uri.name)
        if found is None:
            known = self._server.get("registered-models/search", max_results="1000") or {}
            return not_registered(
                self._uri.name, sorted(m["name"] for m in known.get("registered_models", ()))
            )
        aliases = found["registered_model"].get("aliases", [])
        # MLflow's filters know no escape, but both quotes.
        mark = '"' if "'" in self._uri.name else "'"
        wanted = f"name = {mark}{self._uri.name}{mark}"
        known = self._server.get("model-versions/search", filter=wanted, max_results="1000") or {}
        return self._uri.not_found(
            [str(one["version"]) for one in known.get("model_versions", ())],
            {one["alias"]: str(one["version"]) for one in aliases},
        )

    @contextmanager
    def bundle(self, version: ModelVersion) -> Iterator[Path]:
        """See `Source`."""
        parts = urlsplit(version.artifact_uri)
        if parts.scheme != "mlflow-artifacts":
            yield local_folder(version.artifact_uri) / BUNDLE_FOLDER
            return
        with tempfile.TemporaryDirectory(prefix="serving_bundle_") as name:
            self._server.download(f"{parts.path.strip('/')}/{BUNDLE_FOLDER}", Path(name))
            yield Path(name)


def local_folder(artifact_uri: str) -> Path:
    """Return the folder that a `file://` address or a plain path names.

    Raises
    ------
    RegistryError
        If the artifacts are not on this machine.
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme not in {"", "file"}:
        raise RegistryError(
            f"the model's artifacts are at {parts.scheme}://, which serving cannot read itself",
            hint="set MLFLOW_TRACKING_URI to an MLflow server that serves artifacts",
        )
    return Path(unquote(parts.path))


def _version(name: str, version: str, artifact_uri: str, digest: str | None) -> ModelVersion:
    if digest is None:
        raise BundleError(
            f"{name} version {version} has no tag {DIGEST_TAG}: it has no serving bundle",
            hint="register versions with `runner train`",
        )
    return ModelVersion(name, version, artifact_uri, digest)
