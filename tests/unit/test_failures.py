"""What the tools raise is told as one error with a hint; what nobody knows is not hidden."""

import errno
import sqlite3

import psycopg
import pytest
import redis
from google.api_core.exceptions import Forbidden, RetryError
from google.auth.exceptions import DefaultCredentialsError
from mlflow.exceptions import MlflowException

from contract.serving_errors import BundleError
from runner.errors import RunnerError
from runner.failures import explain


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left", "mlruns/x"), "writing mlruns/x", "df -h"),
        (OSError(errno.EDQUOT, "Quota"), "disk full while writing a file", "df -h"),
        (sqlite3.OperationalError("database or disk is full"), "MLflow's database", "df -h"),
        (psycopg.errors.DiskFull("no room"), "PostgreSQL: no room", "free some space"),
        (psycopg.OperationalError("refused"), "PostgreSQL: refused", "runner up"),
        (psycopg.errors.UndefinedTable("spine_x"), "PostgreSQL: spine_x", "dbt build"),
        (psycopg.errors.InvalidSchemaName("none"), "PostgreSQL: none", "on-run-start"),
        (redis.ConnectionError("refused"), "Redis: refused", "runner up"),
        (redis.OutOfMemoryError("not allowed"), "Redis is full: not allowed", "runner collect"),
        (MlflowException("no such thing"), "MLflow: no such thing", "runner ui"),
        (
            Forbidden("no right\nto read"),
            "Google Cloud: 403 no right to read",
            "doctor --target cloud",
        ),
        (RetryError("too long", TimeoutError()), "Google Cloud: too long", "doctor --target"),
        (DefaultCredentialsError("none"), "no valid credentials: none", "gcloud auth"),
        (ModuleNotFoundError("no", name="botocore"), "botocore is not installed", "install boto3"),
        (ModuleNotFoundError("no", name="azure.storage"), "Azure", "azure-storage-blob"),
        (BundleError("changed", hint="train again"), "changed", "train again"),
        (RunnerError("known", hint="do that"), "known", "do that"),
    ],
)
def test_a_known_failure_is_told_with_a_hint(error, message, hint):
    told = explain(error)
    assert told is not None
    assert message in told.message
    assert hint in told.hint


def test_the_cause_of_an_unknown_error_is_looked_at():
    outer = ValueError("something went wrong")
    outer.__cause__ = psycopg.OperationalError("refused")
    assert "PostgreSQL: refused" in explain(outer).message


def test_a_full_disk_is_the_cause_whatever_was_made_of_it():
    outer = MlflowException("(sqlite3.OperationalError) …")
    outer.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert "disk full" in explain(outer).message


@pytest.mark.parametrize(
    "error", [ImportError("bug"), ValueError("bug"), OSError(errno.EPERM, "no"), KeyError("x")]
)
def test_an_unknown_error_is_not_explained_away(error):
    assert explain(error) is None
