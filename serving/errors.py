"""One base for everything that may go wrong while serving, and the table of what clients see."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class ServingError(Exception):
    """An expected failure: what went wrong and where, and what to do next.

    Parameters
    ----------
    message
        What went wrong. Clients of the API read it, so it holds no addresses and no secrets
        wherever `status` is set for a response.
    hint
        The next step for whoever operates the server; "" where there is none.

    Attributes
    ----------
    status
        HTTP status of the response.
    code
        The stable word that clients may branch on.
    retry_after
        Seconds for the `Retry-After` header, or None.
    """

    status: int = 500
    code: str = "internal_error"
    retry_after: int | None = None

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(ServingError):
    """The server cannot start the way it was asked to."""


class BundleError(ServingError):
    """A serving bundle is incomplete, changed after it was written, or of another format."""


class RegistryError(ServingError):
    """The model registry does not answer or does not know the model."""


class InvalidRequestError(ServingError):
    """The request as a whole cannot be read."""

    status = 422
    code = "invalid_request"


class InvalidEntityRowError(ServingError):
    """One entity row has a key that is missing, unknown or of the wrong type."""

    status = 422
    code = "invalid_entity_row"


class InvalidFeatureOverrideError(ServingError):
    """One row overrides a feature that may not be, or with a value of the wrong type."""

    status = 422
    code = "invalid_feature_override"


class InvalidOnlineValueError(ServingError):
    """The online store holds a value of another type than the model was trained with."""

    status = 503
    code = "invalid_online_value"


class PredictionError(ServingError):
    """The model answered with something that is no finite number."""

    status = 500
    code = "prediction_failed"


class UnauthorizedError(ServingError):
    """No API key, or not one of ours."""

    status = 401
    code = "unauthorized"


class ForbiddenError(ServingError):
    """Asked through a public address while no API key is configured."""

    status = 403
    code = "forbidden"


class UnsupportedMediaTypeError(ServingError):
    """The body is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


class HttpError(ServingError):
    """What the router refuses: an unknown path, or a method that a path does not take."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        phrase = HTTPStatus(status).phrase
        where = "; see /docs for the documentation, POST /predict for predictions"
        super().__init__(phrase + where if status == HTTPStatus.NOT_FOUND else phrase)
        self.status = status
        self.code = phrase.lower().replace(" ", "_")
        self.headers = headers


class RequestTooLargeError(ServingError):
    """Too many bytes or rows in one request."""

    status = 413
    code = "request_too_large"


class TooManyRequestsError(ServingError):
    """More requests at once than the server takes."""

    status = 429
    code = "too_many_requests"
    retry_after = 1


class OnlineStoreUnavailableError(ServingError):
    """The online store does not answer."""

    status = 503
    code = "online_store_unavailable"
    retry_after = 1


class ModelNotReadyError(ServingError):
    """No model is loaded yet."""

    status = 503
    code = "model_not_ready"
    retry_after = 1


class RequestTimeoutError(ServingError):
    """The answer was not ready in time."""

    status = 503
    code = "timeout"
    retry_after = 1


RESPONSES: tuple[type[ServingError], ...] = (
    InvalidRequestError,
    InvalidEntityRowError,
    InvalidFeatureOverrideError,
    UnauthorizedError,
    ForbiddenError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
    TooManyRequestsError,
    OnlineStoreUnavailableError,
    InvalidOnlineValueError,
    ModelNotReadyError,
    RequestTimeoutError,
    PredictionError,
)
"""Every error that `POST /predict` may answer with; OpenAPI and the docs follow this table."""
