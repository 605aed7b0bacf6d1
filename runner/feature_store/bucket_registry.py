"""Feast's registry as an object of Google Cloud Storage that nobody overwrites unread."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from feast.infra.registry.gcs import GCSRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry
from google.api_core.exceptions import NotFound, PreconditionFailed

_SECONDS = 30


class RegistryChangedError(Exception):
    """Another process has written the registry since it was read."""


class GenerationRegistryStore(GCSRegistryStore):  # type: ignore[misc]  # Feast is untyped
    """Feast's store of the registry, which writes only over the generation that it has read.

    Feast's own reads the whole registry, changes it and writes it: of two at once, the second
    undoes what the first has written.
    """

    _generation: int | None = None

    def get_registry_proto(self) -> Registry:
        """Return the registry.

        Raises
        ------
        FileNotFoundError
            If there is none yet.
        """
        self._generation = 0  # which means that there is none
        blob = self.gcs_client.bucket(self._bucket).get_blob(self._blob, timeout=_SECONDS)
        if blob is None:
            raise FileNotFoundError(f"no registry at {self._uri.geturl()}")
        generation, registry = blob.generation, Registry()
        try:
            registry.ParseFromString(blob.download_as_bytes(timeout=_SECONDS))
        except NotFound as err:
            raise RegistryChangedError from err
        self._generation = generation
        return registry

    def _write_registry(self, registry_proto: Registry) -> None:
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(datetime.now(UTC).replace(tzinfo=None))
        blob = self.gcs_client.bucket(self._bucket).blob(self._blob)
        try:
            blob.upload_from_string(
                registry_proto.SerializeToString(),
                timeout=_SECONDS,
                if_generation_match=self._generation,
            )
        except PreconditionFailed as err:
            raise RegistryChangedError from err
        self._generation = blob.generation
