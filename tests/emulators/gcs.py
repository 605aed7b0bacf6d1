"""The Google Cloud Storage emulator for the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import free_port
from tests.emulators.bigquery import install
from tests.emulators.processes import answers_http, running

BUCKET = "ml-artifacts"


@dataclass(frozen=True)
class CloudStorage:
    """Where it listens; it has one bucket, `BUCKET`."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead Google's client there, without credentials."""
        return {"STORAGE_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": "test-project"}


@contextmanager
def cloud_storage(folder: Path) -> Iterator[CloudStorage]:
    """Keep an emulator running that holds its objects in memory."""
    program = install() / "gcp-storage-emulator"
    port = free_port()
    storage = CloudStorage(f"http://127.0.0.1:{port}")
    address = ["--host", "127.0.0.1", "--port", str(port)]
    command = [program, "start", *address, "--default-bucket", BUCKET, "--in-memory"]
    env = {"HOME": str(folder), "TMPDIR": str(folder), "PATH": os.environ["PATH"]}
    with running(command, folder, lambda: answers_http(storage.url), env):
        yield storage
