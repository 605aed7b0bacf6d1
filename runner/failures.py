"""What the tools raise when the outside world fails, as one error and one hint."""

from __future__ import annotations

import errno
import sys
from typing import Any

from runner.errors import RunnerError

_STORE_PACKAGES = {
    "azure": ("Azure (wasbs://, abfss://)", "azure-storage-blob azure-identity"),
    "boto3": ("S3 (s3://)", "boto3"),
    "botocore": ("S3 (s3://)", "boto3"),
}
"""By top-level module: the artifact store that needs it, and what to install."""


def explain(error: BaseException) -> RunnerError | None:
    """Return what a user can do about `error` or what caused it; None if it is not one we know.

    The tools' exception classes are looked up among the modules already loaded: an exception of a
    module that is not loaded cannot have been raised, and importing one here would be slow.
    """
    chain = _chain(error)
    for seen in chain:  # a full disk is the cause, whatever was made of it on the way up
        told = _disk(seen)
        if told is not None:
            return told
    for seen in chain:
        if isinstance(seen, RunnerError):
            return seen
        if _is(seen, "contract.serving_errors", "ServingError"):
            return RunnerError(seen.message, hint=seen.hint or "see `runner status`")
        told = _postgres(seen) or _redis(seen) or _mlflow(seen) or _google(seen)
        told = told or _artifact_store(seen)
        if told is not None:
            return told
    return None


def _chain(error: BaseException) -> list[Any]:
    """Return the error and what it came from, outermost first."""
    chain: list[Any] = []
    seen: BaseException | None = error
    while seen is not None and seen not in chain:
        chain.append(seen)
        seen = seen.__cause__ or seen.__context__
    return chain


def _disk(error: BaseException) -> RunnerError | None:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RunnerError(
            f"disk full while writing {error.filename or 'a file'}",
            hint="free some space (`df -h .`), then run the same command again",
        )
    if _is(error, "sqlite3", "OperationalError") and "disk is full" in str(error):
        return RunnerError(
            f"disk full while writing MLflow's database: {error}",
            hint="free some space (`df -h .`), then run the same command again",
        )
    return None


def _postgres(error: BaseException) -> RunnerError | None:
    if _is(error, "psycopg.errors", "DiskFull"):
        return RunnerError(
            f"PostgreSQL: {error}",
            hint="free some space on its disk, then run the same command again",
        )
    if _is(error, "psycopg", "OperationalError") or _is(
        error, "adbc_driver_manager", "OperationalError"
    ):
        return RunnerError(
            f"PostgreSQL: {error}",
            hint="see `runner status`; `runner up` starts the local servers",
        )
    if _is(error, "psycopg.errors", "InvalidSchemaName"):
        return RunnerError(
            f"PostgreSQL: {error}",
            hint="run `dbt build`, after loading the raw data: its on-run-start creates the schema "
            "feast_registry, if dbt_project.yml has it as the shop's",
        )
    if _is(error, "psycopg.errors", "UndefinedTable"):
        return RunnerError(f"PostgreSQL: {error}", hint="run `dbt build` to create it")
    return None


def _redis(error: BaseException) -> RunnerError | None:
    if _is(error, "redis.exceptions", "OutOfMemoryError"):
        return RunnerError(
            f"Redis is full: {error}",
            hint="run `runner collect`, which moves logs and events to the warehouse, or raise "
            "maxmemory; then run the same command again",
        )
    if _is(error, "redis.exceptions", "RedisError"):
        return RunnerError(
            f"Redis: {error}",
            hint="check REDIS_URL and `runner status`; `runner up` starts the local servers",
        )
    return None


def _mlflow(error: BaseException) -> RunnerError | None:
    if _is(error, "mlflow.exceptions", "MlflowException"):
        return RunnerError(
            f"MLflow: {error}", hint="check MLFLOW_TRACKING_URI, or look with `runner ui`"
        )
    return None


def _google(error: BaseException) -> RunnerError | None:
    """Explain errors of BigQuery and Cloud Storage that the caller has not explained."""
    if _is(error, "google.auth.exceptions", "TransportError"):
        return RunnerError(
            f"Google Cloud does not answer: {' '.join(str(error).split())}",
            hint="check the network, then run the same command again",
        )
    if _is(error, "google.auth.exceptions", "GoogleAuthError"):
        return RunnerError(
            f"Google Cloud: no valid credentials: {error}",
            hint="run `gcloud auth application-default login`, or as a service account",
        )
    if _is(error, "google.api_core.exceptions", "GoogleAPIError"):
        return RunnerError(
            f"Google Cloud: {' '.join(str(error).split())}",
            hint="run `runner doctor --target cloud`",
        )
    return None


def _artifact_store(error: BaseException) -> RunnerError | None:
    """MLflow imports the client of a cloud's bucket when an artifact is asked for."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if name not in _STORE_PACKAGES:
        return None
    store, package = _STORE_PACKAGES[name]
    return RunnerError(
        f"MLflow keeps its artifacts in {store}, and {name} is not installed",
        hint=f"`pip install {package}`, or set MLFLOW_TRACKING_URI to an MLflow server that "
        "serves artifacts",
    )


def _is(error: BaseException, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(error, kind)
