"""Is dbt's manifest still that of the project as it is now? Answered without starting dbt.

dbt takes seconds to find out that nothing changed. After a command that read the whole project,
`remember` records a digest of all that dbt read and of the manifest it wrote; `is_current` compares
both. Whatever is in doubt (an `env_var` whose name is computed, a manifest that somebody else
wrote, paths that are Jinja) counts as changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from runner.settings import Settings

GENERATED = "_generated"  # the folder of what we write for dbt: it defines nothing that we read
_DISTRIBUTIONS = ("dbt-core", "dbt-common", "dbt-adapters", "dbt-postgres", "dbt-bigquery")
_DEFAULT_PATHS: Mapping[str, str] = {
    "model-paths": "models",
    "seed-paths": "seeds",
    "macro-paths": "macros",
    "test-paths": "tests",
    "snapshot-paths": "snapshots",
    "analysis-paths": "analyses",
    "function-paths": "functions",
    "packages-install-path": "dbt_packages",
}
_ENV_VAR = re.compile(rb"\benv_var\b")
_NAMED_ENV_VAR = re.compile(rb"\benv_var\s*\(\s*(['\"])(\w+)\1\s*[,)]")
# What dbt and its adapters read by themselves.
_ENVIRONMENT = ("DBT_", "PG", "GOOGLE_", "BIGQUERY_")
_LARGEST_READ = 2**20  # dbt itself knows a larger seed by its path alone


def is_current(settings: Settings) -> bool:
    """Return whether dbt would read the project as its manifest has it."""
    recorded = kept(settings, "parsed")
    return bool(
        recorded
        and recorded.get("manifest") == _file_digest(settings.manifest_path)
        and recorded.get("project") == fingerprint(settings)
    )


def remember(settings: Settings, project: str | None, invocation_id: str) -> None:
    """Record that dbt's manifest is of the project with this fingerprint, if that is certain.

    Parameters
    ----------
    project
        The fingerprint before dbt started: nothing is recorded if another one came of it since.
    invocation_id
        Of the dbt that ran; nothing is recorded if the manifest is another one's.
    """
    if project is None or project != fingerprint(settings):
        return
    try:
        content = settings.manifest_path.read_bytes()
        if json.loads(content)["metadata"]["invocation_id"] != invocation_id:
            return
    except (OSError, ValueError, KeyError):
        return
    keep(settings, "parsed", {"project": project, "manifest": hashlib.sha256(content).hexdigest()})


def fingerprint(settings: Settings) -> str | None:
    """Return a digest of all that dbt reads to understand the project; None if that is unknown.

    Of files their content, of the environment the variables that they name, and dbt's version.
    """
    folders = _folders(settings.root)
    if folders is None:
        return None
    digest = hashlib.sha256(repr((settings.target, str(settings.root), *_versions())).encode())
    names: set[str] = set()
    for path in (*_root_files(settings), *_files_below(folders)):
        content = _content(path)
        named = [found[1].decode() for found in _NAMED_ENV_VAR.findall(content)]
        if len(named) != len(_ENV_VAR.findall(content)):
            return None
        names.update(named)
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    names |= {name for name in settings.env if name.startswith(_ENVIRONMENT)}
    values = [(name, settings.env.get(name)) for name in sorted(names)]
    digest.update(repr(values).encode())
    return digest.hexdigest()


def kept(settings: Settings, name: str) -> dict[str, Any]:
    """Return what `keep` was given under `name`; nothing where there is none."""
    try:
        content = json.loads(_path(settings, name).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def keep(settings: Settings, name: str, content: Mapping[str, object]) -> None:
    """Keep `content` beside dbt's artifacts, where `dbt clean` removes it; all or nothing."""
    path = _path(settings, name)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(content), encoding="utf-8")
        new.replace(path)
    except OSError:  # a read-only or full disk: the next command works it out again
        new.unlink(missing_ok=True)


def _path(settings: Settings, name: str) -> Path:
    return settings.manifest_path.parent / "runner" / f"{name}.json"


def _versions() -> Iterator[str]:
    for name in _DISTRIBUTIONS:
        try:
            yield version(name)
        except PackageNotFoundError:
            yield ""


def _folders(root: Path) -> list[Path] | None:
    """Return every folder that dbt_project.yml names; None if it is not plain YAML."""
    try:
        project = yaml.safe_load((root / "dbt_project.yml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(project, dict):
        return None
    wanted: dict[str, list[object]] = {key: [path] for key, path in _DEFAULT_PATHS.items()}
    for key, paths in project.items():
        if str(key).endswith(("-paths", "-path")) and key not in {"target-path", "log-path"}:
            wanted[str(key)] = paths if isinstance(paths, list) else [paths]
    named = [path for paths in wanted.values() for path in paths]
    plain = [path for path in named if isinstance(path, str) and "{" not in path]
    return sorted({root / path for path in plain}) if len(plain) == len(named) else None


def _root_files(settings: Settings) -> list[Path]:
    """Return dbt's own files, and the profile wherever dbt may find it."""
    root = settings.root
    found = {path for path in root.iterdir() if path.suffix in {".yml", ".yaml"}}
    found |= {root / ".dbtignore", Path.home() / ".dbt" / "profiles.yml"}
    if elsewhere := settings.env.get("DBT_PROFILES_DIR"):
        found.add(root / elsewhere / "profiles.yml")
    return sorted(path for path in found if path.is_file())


def _files_below(folders: Iterable[Path]) -> Iterator[Path]:
    for top in folders:
        for folder, below, files in os.walk(top, followlinks=True):
            below[:] = sorted(name for name in below if name != GENERATED)
            yield from (Path(folder, name) for name in sorted(files))


def _content(path: Path) -> bytes:
    try:
        stat = path.stat()
        if stat.st_size > _LARGEST_READ:
            return repr((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)).encode()
        return path.read_bytes()
    except OSError:  # gone since, or a link to nothing
        return b"\0"


def _file_digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
