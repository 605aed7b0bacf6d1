"""BigQuery for what writes or reads tables of its own, and rows on their way into one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import IO
from uuid import uuid4

from google.api_core.exceptions import Conflict, GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery

from runner import console
from runner.errors import RunnerError
from runner.settings import Settings
from runner.sql import quote_bigquery

_LIFETIME = timedelta(hours=1)
_LOCK_LASTS = timedelta(minutes=5)
_RENEWAL_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 600
_LOCK_PREFIX = "runner-lock-"  # BigQuery takes a dash in the name of a table
_OWNER = "owner"
_POLL_SECONDS = 1.0
_DOCTOR = "run `runner doctor --target cloud`"


@contextmanager
def open_client(
    settings: Settings, table: str = "", *, hint: str = _DOCTOR
) -> Iterator[bigquery.Client]:
    """Open the project of GOOGLE_CLOUD_PROJECT; `table` and what is raised as `open_project`."""
    project, location = settings.env["GOOGLE_CLOUD_PROJECT"], settings.env.get("BIGQUERY_LOCATION")
    with open_project(project, location, table, hint=hint) as client:
        yield client


@contextmanager
def open_project(
    project: str | None,
    location: str | None,
    table: str = "",
    *,
    hint: str = _DOCTOR,
) -> Iterator[bigquery.Client]:
    """Open a project; None: that of the credentials.

    Parameters
    ----------
    table
        What an error is about, as `dataset.table`; empty: the error itself says it.

    Raises
    ------
    RunnerError
        If Google refuses anything in the block.
    """
    try:
        with bigquery.Client(project, location=location) as client:
            yield client
    except (GoogleAPIError, GoogleAuthError) as err:
        name = ".".join(filter(None, (project, table)))
        raise RunnerError(f"BigQuery, {name}: {err}", hint=hint) from err


@contextmanager
def writing_alone(client: bigquery.Client, dataset: str, name: str) -> Iterator[None]:
    """Be the only process that writes the table `name` in this way; others wait.

    BigQuery has no locks, but makes a table once: here an empty one, which lasts as long as the
    block and whose label names its owner. It is renewed while the block works, and expires 5
    minutes after its process was killed or paused: a block that is paused for longer is no longer
    alone.

    Raises
    ------
    RunnerError
        If others write for 10 minutes, or the name is that of such a lock.
    """
    if name.startswith(_LOCK_PREFIX):
        raise RunnerError(
            f"{dataset}.{name}: the name of a raw table begins with {_LOCK_PREFIX!r}, as locks do",
            hint="give the dbt source another name or `identifier`",
        )
    lock = bigquery.Table(f"{client.project}.{dataset}.{_LOCK_PREFIX}{name}")
    lock.labels = {_OWNER: uuid4().hex}
    _enter(client, lock, f"{dataset}.{name}")
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(client, lock, ended), daemon=True, name="lock")
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        if _is_ours(client, lock):
            client.delete_table(lock, not_found_ok=True)


def _keep(client: bigquery.Client, lock: bigquery.Table, ended: threading.Event) -> None:
    """Renew the lock until `ended`: a load job may wait in BigQuery for longer than it lasts."""
    while not ended.wait(_RENEWAL_SECONDS):
        with suppress(GoogleAPIError, GoogleAuthError):  # whoever writes meets it too
            if not _is_ours(client, lock):
                return
            lock.expires = datetime.now(tz=UTC) + _LOCK_LASTS
            client.update_table(lock, ["expires"])


def _enter(client: bigquery.Client, lock: bigquery.Table, written: str) -> None:
    until, noted = time.monotonic() + _LONGEST_WAIT_SECONDS, False
    while not _create(client, lock):
        if time.monotonic() >= until:
            raise RunnerError(
                f"BigQuery, {written}: other processes have been writing it for 10 minutes",
                hint="run the same command again when they have ended; if there are none, "
                f"run `bq rm -t {lock.project}:{lock.dataset_id}.{lock.table_id}` first",
            )
        if not noted:
            console.note(f"another process writes {written}: waiting until it has ended")
            noted = True
        time.sleep(_POLL_SECONDS)


def _create(client: bigquery.Client, lock: bigquery.Table) -> bool:
    """Make the table; return False if another's is there.

    Ours is there if the answer to a first request was lost and the client sent it again.
    """
    lock.expires = datetime.now(tz=UTC) + _LOCK_LASTS
    try:
        client.create_table(lock)
    except Conflict:
        return _is_ours(client, lock)
    return True


def _is_ours(client: bigquery.Client, lock: bigquery.Table) -> bool:
    try:
        found = client.get_table(lock)
    except NotFound:
        return False
    return bool(found.labels.get(_OWNER) == lock.labels[_OWNER])


@contextmanager
def arriving(
    client: bigquery.Client,
    dataset: str,
    fields: Sequence[bigquery.SchemaField],
    file: IO[bytes],
    labels: Mapping[str, str],
) -> Iterator[str]:
    """Load a Parquet file into a table that lasts as long as the block; yield its name, quoted."""
    name = (client.project, dataset, f"arriving_{uuid4().hex}")
    with loaded(client, name, fields, file, labels):
        yield quote_bigquery(*name)


@contextmanager
def loaded(
    client: bigquery.Client,
    name: tuple[str, str, str],
    fields: Sequence[bigquery.SchemaField],
    file: IO[bytes],
    labels: Mapping[str, str],
) -> Iterator[None]:
    """Load a Parquet file into a new table of that name, which lasts as long as the block."""
    table = bigquery.Table(".".join(name), schema=fields)
    table.expires = datetime.now(tz=UTC) + _LIFETIME  # of a process that was killed
    options = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        schema=table.schema,
        labels=dict(labels),
    )
    client.create_table(table)
    try:
        file.seek(0)
        client.load_table_from_file(file, table, job_config=options).result()
        yield
    finally:
        client.delete_table(table, not_found_ok=True)
