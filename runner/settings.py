"""Where everything is: the project's folders and the connections of one dbt target.

The environment is chosen by `--target`, else `APP_ENV`, else `local`. Connection variables are
the tools' own (`PGHOST`, `REDIS_URL`, `MLFLOW_TRACKING_URI` …), read from `profiles/<target>.env`;
the process environment wins over the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from contract.redis_address import RedisAddress
from contract.serving_errors import ServingError
from runner.errors import RunnerError

TARGETS = ("local", "cloud")

# None of the tools may phone home from a user's machine.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "FEAST_USAGE": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

# The environment of a dbt that we start. PostgreSQL's session is ours whatever the server or the
# role says: in another zone dbt would compute other days. `wait_for_runner` reads the last one.
DBT_ENVIRONMENT = {
    "PGTZ": "UTC",
    "PGDATESTYLE": "ISO, MDY",
    "PGCLIENTENCODING": "UTF8",
    "RUNNER_STARTED_DBT": "1",
}


@dataclass(frozen=True)
class PostgresAddress:
    """A PostgreSQL database, by libpq's own variables."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    @property
    def conninfo(self) -> dict[str, str | int]:
        """Keyword arguments for `psycopg.connect`."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }


@dataclass(frozen=True)
class Settings:
    """One project in one environment.

    Attributes
    ----------
    target
        The dbt target: `local` or `cloud`.
    root
        The project's folder: the one that holds `dbt_project.yml`.
    env
        Every variable the tools see: process environment over `profiles/<target>.env`.
    """

    target: str
    root: Path
    env: Mapping[str, str] = field(repr=False)

    @property
    def postgres(self) -> PostgresAddress:
        """The warehouse of the `local` target.

        Raises
        ------
        RunnerError
            If the target has none.
        """
        if self.target == "cloud":
            raise RunnerError(
                "target cloud has no PostgreSQL",
                hint="run it with --target local; `runner help bigquery` lists what runs where",
            )
        return PostgresAddress(
            host=self.env["PGHOST"],
            port=self._port("PGPORT"),
            user=self.env["PGUSER"],
            password=self.env["PGPASSWORD"],
            database=self.env["PGDATABASE"],
        )

    @property
    def redis(self) -> RedisAddress:
        """The online store; behind Sentinels, the server that is the master now.

        Raises
        ------
        RunnerError
            If `REDIS_URL` is no address, or has an option that is not carried out; if no Sentinel
            says where the master is.
        """
        try:
            return RedisAddress.from_url(self.env["REDIS_URL"]).resolved()
        except ServingError as err:
            raise RunnerError(err.message, hint=err.hint) from err

    @property
    def mlflow_tracking_uri(self) -> str:
        """MLflow's tracking and registry address; a relative SQLite path is made absolute.

        Raises
        ------
        RunnerError
            If it is a server's and holds a password: the address is written into exposures.
        """
        uri = self.env["MLFLOW_TRACKING_URI"]
        if uri.startswith(("http://", "https://")) and "@" in urlsplit(uri).netloc:
            raise RunnerError(
                "MLFLOW_TRACKING_URI holds a user name or password",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
            )
        return self._with_absolute_path(uri)

    @property
    def optuna_storage(self) -> str:
        """Where Optuna keeps trials, as SQLAlchemy's URL: a file, unless OPTUNA_STORAGE is set."""
        url = self.env.get("OPTUNA_STORAGE") or "sqlite:///mlruns/optuna.db"
        # By itself SQLAlchemy would ask for psycopg2.
        return self._with_absolute_path(re.sub("^postgres(ql)?://", "postgresql+psycopg://", url))

    @property
    def env_file(self) -> Path:
        """The file of the target's connection variables."""
        return self.root / "profiles" / f"{self.target}.env"

    @property
    def manifest_path(self) -> Path:
        """What dbt last compiled."""
        return self.root / "target" / "manifest.json"

    @property
    def feature_repo(self) -> Path:
        """The folder that the `feast` command line works in."""
        return self.root / "feature_repo"

    @property
    def feature_store_yaml(self) -> Path:
        """Feast's configuration for this target."""
        return self.root / "profiles" / f"feature_store.{self.target}.yaml"

    def export(self) -> None:
        """Put the variables into this process's environment, where Feast and MLflow read them."""
        os.environ.update(self.env)
        os.environ["MLFLOW_TRACKING_URI"] = self.mlflow_tracking_uri

    def _with_absolute_path(self, url: str) -> str:
        path = url.removeprefix("sqlite:///")
        return url if path == url or path.startswith("/") else f"sqlite:///{self.root / path}"

    def _port(self, variable: str) -> int:
        text = self.env[variable]
        if re.fullmatch("[0-9]{1,5}", text) is None or not 0 < int(text) < 65_536:
            raise RunnerError(
                f"{variable}={text!r} is not a port number",
                hint=f"set {variable} to a number, or unset it to use profiles/{self.target}.env",
            )
        return int(text)


def load_settings(target: str | None = None, start: Path | None = None) -> Settings:
    """Return the settings of the project that `start` (default: the current folder) lies in.

    Raises
    ------
    RunnerError
        If there is no project, no such target, or a variable is missing.
    """
    settings = read_settings(target, start)
    missing = missing_variables(settings)
    if missing:
        path = settings.env_file
        raise RunnerError(
            f"{path}: {', '.join(missing)} not set",
            hint=f"add {'=…, '.join(missing)}=… to {path.name}, or to the environment",
        )
    return settings


def read_settings(target: str | None = None, start: Path | None = None) -> Settings:
    """Return the same although variables may be missing; raises for all else."""
    chosen = target or os.environ.get("APP_ENV") or "local"
    if chosen not in TARGETS:
        raise RunnerError(
            f"unknown target {chosen!r}", hint="choose --target local or --target cloud"
        )
    settings = Settings(target=chosen, root=find_root(start or Path.cwd()), env={})
    path = settings.env_file
    if not path.is_file():
        raise RunnerError(
            f"{path}: no such file", hint="copy it from the runner repository's profiles/ folder"
        )
    env = {**NO_TELEMETRY, **read_env_file(path), **os.environ, "APP_ENV": chosen}
    return replace(settings, env=env)


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables in a file of `profiles/`; what is empty there is empty."""
    return {key: value or "" for key, value in dotenv_values(path, interpolate=False).items()}


def missing_variables(settings: Settings) -> list[str]:
    """Return the variables that the target cannot do without and that are not set."""
    required = ["REDIS_URL", "MLFLOW_TRACKING_URI"]
    if settings.target == "cloud":
        required += ["GOOGLE_CLOUD_PROJECT", "FEAST_REGISTRY"]
    if settings.target == "local":
        required += ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"]
    return [name for name in required if not settings.env.get(name)]


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds `dbt_project.yml`."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "dbt_project.yml").is_file():
            return folder
    raise RunnerError(
        f"no dbt_project.yml in {start} or any folder above it",
        hint="change into a project folder, the one with dbt_project.yml and recipes/",
    )
