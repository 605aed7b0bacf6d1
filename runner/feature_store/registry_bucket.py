"""Can Feast's registry in Google Cloud Storage be reached? Feast itself would try for minutes."""

from __future__ import annotations

from urllib.parse import urlsplit

from runner.errors import RunnerError

_SECONDS = 10.0


def require_bucket(path: str) -> None:
    """Return if the bucket of `path`, `gs://<bucket>/…`, is there and lets us in.

    Raises
    ------
    RunnerError
        If there are no credentials, no such bucket, no permission, or no answer.
    """
    import requests
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    bucket = urlsplit(path).netloc
    try:
        storage.Client().get_bucket(bucket, timeout=_SECONDS, retry=None)
    except (GoogleAuthError, exceptions.Unauthorized) as err:
        raise RunnerError(
            f"FEAST_REGISTRY={path}: no valid Google credentials: {err}",
            hint="run `gcloud auth application-default login`, or as a service account",
        ) from err
    except exceptions.NotFound as err:
        raise RunnerError(
            f"FEAST_REGISTRY={path}: there is no bucket {bucket}",
            hint=f"make it with `gcloud storage buckets create gs://{bucket}`, or correct "
            "FEAST_REGISTRY",
        ) from err
    except exceptions.Forbidden as err:
        raise RunnerError(
            f"FEAST_REGISTRY={path}: no permission to read the bucket {bucket}",
            hint="grant roles/storage.legacyBucketReader and roles/storage.objectUser on it to "
            "the account that runs this",
        ) from err
    except (requests.exceptions.RequestException, exceptions.GoogleAPIError) as err:
        raise RunnerError(
            f"FEAST_REGISTRY={path}: Google Cloud Storage does not answer: {err}",
            hint="check the network, and STORAGE_EMULATOR_HOST if it is set",
        ) from err
