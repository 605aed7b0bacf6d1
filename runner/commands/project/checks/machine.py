"""Checks of the machine and the project's files; see `doctor.py`."""

from __future__ import annotations

import platform
import shutil
import socket
from importlib.metadata import PackageNotFoundError, metadata, version
from tempfile import TemporaryFile
from urllib.error import URLError
from urllib.request import urlopen

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from contract.serving_settings import serving_port
from runner.errors import CombinedError, RunnerError
from runner.project.manifest import load_manifest
from runner.settings import Settings, missing_variables, read_env_file

_DISTRIBUTION = "recipe-runner"
_FOLDERS = ("data", "mlruns", "target", "logs")
_LEAST_FREE = 2**30


def variables(settings: Settings) -> str:
    """See that the target's connection variables are set."""
    missing = missing_variables(settings)
    if missing:
        raise RunnerError(
            f"{', '.join(missing)} not set",
            hint=f"add {'=…, '.join(missing)}=… to {settings.env_file}, or to the environment",
        )
    stated = read_env_file(settings.env_file)
    other = [name for name, value in stated.items() if settings.env.get(name, value) != value]
    differs = f"; the environment overrides {', '.join(other)}" if other else ""
    return f"all set, from {settings.env_file} and the environment{differs}"


def packages(_: Settings) -> str:
    """See that Python and the packages have the versions that this program is made for."""
    about = metadata(_DISTRIBUTION)
    wrong = []
    if not SpecifierSet(about["Requires-Python"]).contains(platform.python_version()):
        wrong.append(f"Python {platform.python_version()}, not {about['Requires-Python']}")
    wanted = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    for requirement in wanted:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, not {requirement.specifier}")
    if wrong:
        raise RunnerError("; ".join(wrong), hint="run `make install`")
    return f"Python {platform.python_version()} and {len(wanted)} packages as required"


def profiles(settings: Settings) -> str:
    """See that dbt's and Feast's profiles know the target."""
    # As dbt looks: in the current folder, which is the project's, unless told otherwise.
    path = settings.root / "profiles.yml"
    if settings.env.get("DBT_PROFILES_DIR"):
        path = settings.root / settings.env["DBT_PROFILES_DIR"] / "profiles.yml"
    for file in (path, settings.feature_store_yaml, settings.root / "dbt_project.yml"):
        if not file.is_file():
            raise RunnerError(
                f"{file}: no such file", hint="copy it from the runner repository's profiles/"
            )
    profile = yaml.safe_load((settings.root / "dbt_project.yml").read_text())["profile"]
    outputs = (yaml.safe_load(path.read_text()).get(profile) or {}).get("outputs") or {}
    if settings.target not in outputs:
        raise RunnerError(
            f"{path}: profile {profile} has no output {settings.target}; it has "
            f"{', '.join(outputs) or 'none'}",
            hint="copy it from the runner repository's profiles/profiles.yml",
        )
    return f"{path} and {settings.feature_store_yaml.name} define the target {settings.target}"


def dbt_models(settings: Settings) -> str:
    """See that every feature mart and spine says what Feast needs, as far as dbt has read them."""
    if not settings.manifest_path.is_file():
        return "dbt has not read the project yet"
    manifest = load_manifest(settings.manifest_path)
    errors = [error for found in manifest.errors.values() for error in found]
    if errors:
        hint = f"{errors[0].hint}; `runner check` lists all with their hints"
        raise CombinedError(errors, hint=hint)
    return f"{len(manifest.marts)} feature marts and {len(manifest.spines)} spines are right"


def disk(settings: Settings) -> str:
    """See that the project's folders can be written and that there is room."""
    # What is not there yet is made in the project's folder; in our image all of them are there.
    folders = (settings.root / name for name in _FOLDERS)
    for folder in {one if one.exists() else settings.root: None for one in folders}:
        try:
            with TemporaryFile(dir=folder):
                pass
        except OSError as err:
            raise RunnerError(
                f"{folder} cannot be written: {err.strerror}",
                hint=f"give yourself the folder: `chown -R $USER {folder}`",
            ) from err
    free = shutil.disk_usage(settings.root).free
    if free < _LEAST_FREE:
        raise RunnerError(
            f"{free / 2**20:,.0f} MiB free at {settings.root}", hint="free some space (`df -h .`)"
        )
    return f"{settings.root} can be written, {free / 2**30:,.1f} GiB free"


def port(settings: Settings) -> str:
    """See that the port of `runner serve` is free, or that it is serving there."""
    wanted = serving_port(settings.env)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return _who_listens(wanted)
    return f"{wanted} is free for `runner serve`"


def _who_listens(port: int) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=2) as answer:
            if b'"/predict"' in answer.read():
                return f"`runner serve` answers at {port}"
    except (URLError, OSError):
        pass
    raise RunnerError(
        f"another program listens at 127.0.0.1:{port}",
        hint=f"end it, or serve elsewhere: `runner serve RECIPE --port {port + 1}`",
    )
