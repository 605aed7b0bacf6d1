"""The BigQuery emulator, and this process's clients led to it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import google.auth
import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from tests.conftest import free_port
from tests.emulators.bigquery import Emulator, running


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for all tests of this process; each module has datasets of its own."""
    with running(tmp_path_factory.mktemp("bigquery"), free_port(), free_port()) as started:
        yield started


@pytest.fixture(scope="module")
def client(emulator: Emulator, _module_environment: None) -> Iterator[bigquery.Client]:
    """An official client of the emulator; those that the code makes lead there too."""
    os.environ.update(emulator.environment)
    with pytest.MonkeyPatch.context() as patch:
        credentials = (AnonymousCredentials(), emulator.project)
        patch.setattr(google.auth, "default", lambda *_, **__: credentials)
        patch.setattr(
            bigquery.Client, "_ensure_bqstorage_client", lambda *_, **__: _storage(emulator)
        )
        yield bigquery.Client(project=emulator.project)


@pytest.fixture(scope="module")
def dataset(client: bigquery.Client) -> str:
    """The name of a new dataset."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    client.create_dataset(name)
    return name


def _storage(emulator: Emulator) -> Any:
    """Return a client of the emulator's Storage Read API: it speaks without TLS."""
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
        BigQueryReadGrpcTransport,
    )

    channel = grpc.insecure_channel(emulator.grpc)
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
