"""Checks of the Google side of the cloud target; see `doctor.py`.

Google's clients try failed calls again for minutes by default: here they try once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.errors import RunnerError
from runner.settings import Settings

if TYPE_CHECKING:
    from google.cloud import bigquery

# Those that dbt builds in take DBT_SCHEMA_PREFIX, as its macro generate_schema_name does.
DATASETS = ("raw_events", "staging", "feature_mart", "spine_data", "feast_registry")
_BUILT = ("staging", "feature_mart", "spine_data")
_SECONDS = 15.0
# Their signatures say that there is always a Retry; None is their documented way to have none.
_ONCE: Any = {"retry": None, "timeout": _SECONDS}
_UNLOCKED = "a file has no lock: train one model at a time"


def credentials(_: Settings) -> str:
    """See that there are application default credentials."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        found, _project = google.auth.default()
    except GoogleAuthError as err:
        raise RunnerError(
            f"no application default credentials: {err}",
            hint="run `gcloud auth application-default login`, or as a service account",
        ) from err
    return f"application default credentials ({type(found).__name__})"


def server(settings: Settings) -> str:
    """See that BigQuery answers; the checks after it see what it lets us do."""
    from google.api_core.exceptions import Forbidden, NotFound

    with _told(settings, "BigQuery", role=""), suppress(Forbidden, NotFound):
        _client(settings).get_dataset(DATASETS[0], **_ONCE)
    return f"answers for project {settings.env['GOOGLE_CLOUD_PROJECT']}"


def jobs(settings: Settings) -> str:
    """See that we may run queries, by a dry run, which costs nothing."""
    from google.cloud import bigquery

    role = "roles/bigquery.jobUser"
    with _told(settings, "BigQuery refuses a query", role):
        options = bigquery.QueryJobConfig(dry_run=True)
        _client(settings).query("select 1", job_config=options, job_retry=None, **_ONCE)
    return f"queries may run in project {settings.env['GOOGLE_CLOUD_PROJECT']}"


def dataset(settings: Settings, name: str) -> str:
    """See that the dataset is there, and in the location that is configured."""
    from google.api_core.exceptions import NotFound

    project, location = settings.env["GOOGLE_CLOUD_PROJECT"], _location(settings)
    prefix = settings.env.get("DBT_SCHEMA_PREFIX", "") if name in _BUILT else ""
    full = f"{project}.{prefix}{name}"
    make = f"`bq --location={location} mk --dataset {full.replace('.', ':', 1)}`"
    try:
        with _told(settings, f"dataset {full}", "roles/bigquery.dataEditor"):
            found = _client(settings).get_dataset(full, **_ONCE)
    except RunnerError as err:
        if not isinstance(err.__cause__, NotFound):
            raise
        hint = f"{make}, then load the raw tables into it"
        if name != "raw_events":
            hint = f"`dbt build --target cloud` makes it, or {make}"
        raise RunnerError(f"there is no dataset {full}", hint=hint) from err
    if found.location.lower() != location.lower():
        raise RunnerError(
            f"dataset {full} is in {found.location}, but BIGQUERY_LOCATION={location}",
            hint=f"set BIGQUERY_LOCATION={found.location}, or recreate the dataset in {location}",
        )
    return f"{full} in {found.location}"


def storage_read(settings: Settings) -> str:
    """See that the Storage Read API lets us read a row, of a query that costs nothing."""
    with _told(settings, "the Storage Read API", "roles/bigquery.readSessionUser"):
        client = _client(settings)
        done = client.query("select 1 as one", job_retry=None, **_ONCE)
        done.result(timeout=_SECONDS)
        # Of a table, not of the query: its first rows have come with the answer.
        table = client.list_rows(done.destination, **_ONCE).to_arrow()
    return f"{table.num_rows} row read"


def feast_registry(settings: Settings) -> str:
    """See that Feast can read its registry."""
    path = settings.env["FEAST_REGISTRY"]
    if not _exists(path):
        return f"{path}: not there yet; the first `runner train` makes it; {_UNLOCKED}"
    from runner.feature_store.store import open_store

    views = sorted(view.name for view in open_store(settings).list_feature_views())
    return f"{path}: feature views: {', '.join(views) or 'none'}; {_UNLOCKED}"


def _exists(path: str) -> bool:
    """Return whether the registry's file is there: Feast would make it, and a check must not."""
    if not path.startswith("gs://"):
        if not Path(path).parent.is_dir():
            raise RunnerError(
                f"FEAST_REGISTRY={path}: no such folder",
                hint="make it, or set FEAST_REGISTRY=gs://<bucket>/feast/registry.db",
            )
        return Path(path).is_file()
    from google.cloud import storage

    from runner.feature_store.registry_bucket import require_bucket

    require_bucket(path)
    url = urlsplit(path)
    blob = storage.Client().bucket(url.netloc).blob(url.path.lstrip("/"))
    return bool(blob.exists(**_ONCE))


def _client(settings: Settings) -> bigquery.Client:
    from google.cloud import bigquery

    return bigquery.Client(settings.env["GOOGLE_CLOUD_PROJECT"], location=_location(settings))


def _location(settings: Settings) -> str:
    return settings.env.get("BIGQUERY_LOCATION") or "EU"


@contextmanager
def _told(settings: Settings, what: str, role: str) -> Iterator[None]:
    """Say what Google's clients raise as one error; `role` is what grants the permission."""
    import requests
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    project = settings.env["GOOGLE_CLOUD_PROJECT"]
    hints: dict[type[Exception], str] = {
        exceptions.Forbidden: f"grant {role} to the account in project {project}",
        exceptions.Unauthorized: "run `gcloud auth application-default login`",
        GoogleAuthError: "run `gcloud auth application-default login`",
        exceptions.NotFound: "correct GOOGLE_CLOUD_PROJECT and BIGQUERY_LOCATION",
    }
    try:
        yield
    except (exceptions.GoogleAPIError, GoogleAuthError, requests.RequestException) as err:
        hint = "check the network, and BIGQUERY_EMULATOR_HOST if it is set"
        hint = next((text for kind, text in hints.items() if isinstance(err, kind)), hint)
        raise RunnerError(f"{what}: {_reason(err)}", hint=hint) from err


def _reason(error: Any) -> str:
    errors = getattr(error, "errors", None) or []
    told = [found["message"] for found in errors if isinstance(found, dict)]
    return told[0] if told else str(error)
