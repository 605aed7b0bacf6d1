"""What the HTTP API refuses or cannot do, and the table of what its clients see."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from contract.serving_errors import (
    InvalidOnlineValueError,
    OnlineStoreUnavailableError,
    PredictionError,
    ServingError,
)


class MalformedRequestError(ServingError):
    """What came is no HTTP/1.1 request."""

    status = 400
    code = "malformed_request"


class UrlTooLongError(ServingError):
    """The URL has too many bytes."""

    status = 414
    code = "url_too_long"


class HeadersTooLargeError(ServingError):
    """The headers or trailers have too many bytes, or are too many."""

    status = 431
    code = "headers_too_large"


class InvalidRequestError(ServingError):
    """The request as a whole cannot be read."""

    status = 422
    code = "invalid_request"


class InvalidEntityRowError(ServingError):
    """One entity row has a key or request input that is missing, unknown or of the wrong type."""

    status = 422
    code = "invalid_entity_row"


class MissingEntityError(ServingError):
    """A view has nothing for one row's entity, and the recipe says `on_missing_entity: error`."""

    status = 422
    code = "missing_entity"


class InvalidFeatureOverrideError(ServingError):
    """One row overrides a feature that may not be, or with a value of the wrong type."""

    status = 422
    code = "invalid_feature_override"


class ExplanationsUnavailableError(ServingError):
    """The model's answers cannot be explained, or not in a request."""

    status = 422
    code = "explanations_unavailable"


class UnauthorizedError(ServingError):
    """No API key, or not one of ours."""

    status = 401
    code = "unauthorized"


class ForbiddenError(ServingError):
    """Asked through a public address while no API key is configured."""

    status = 403
    code = "forbidden"


class UnsupportedMediaTypeError(ServingError):
    """The body is not declared as JSON in UTF-8, or it is compressed."""

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
    """More requests, or more bytes of them, at once than the server takes."""

    status = 429
    code = "too_many_requests"
    retry_after = 1


class TooManyConnectionsError(ServingError):
    """More connections at once than the server takes, all of them waiting for an answer."""

    status = 503
    code = "too_many_connections"
    retry_after = 1


class ModelNotReadyError(ServingError):
    """No model is loaded yet."""

    status = 503
    code = "model_not_ready"
    retry_after = 1


class UnknownTableError(ServingError):
    """No dbt source takes events under this name."""

    status = 404
    code = "unknown_table"


class EventsNotRecordedError(ServingError):
    """Redis has not confirmed the events. Send them again: those that it has are known by id."""

    status = 503
    code = "events_not_recorded"
    retry_after = 1


class RequestTimeoutError(ServingError):
    """The answer was not ready in time, counted from the request's first byte."""

    status = 503
    code = "timeout"
    retry_after = 1


EVENT_RESPONSES: tuple[type[ServingError], ...] = (
    MalformedRequestError,
    UrlTooLongError,
    HeadersTooLargeError,
    InvalidRequestError,
    UnauthorizedError,
    ForbiddenError,
    UnknownTableError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
    TooManyRequestsError,
    EventsNotRecordedError,
    ModelNotReadyError,
    RequestTimeoutError,
    TooManyConnectionsError,
)
"""Every error that `POST /events/{table}` may answer with."""
RESPONSES: tuple[type[ServingError], ...] = (
    MalformedRequestError,
    UrlTooLongError,
    HeadersTooLargeError,
    InvalidRequestError,
    InvalidEntityRowError,
    InvalidFeatureOverrideError,
    MissingEntityError,
    ExplanationsUnavailableError,
    UnauthorizedError,
    ForbiddenError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
    TooManyRequestsError,
    OnlineStoreUnavailableError,
    InvalidOnlineValueError,
    ModelNotReadyError,
    RequestTimeoutError,
    TooManyConnectionsError,
    PredictionError,
)
"""Every error that `POST /predict` may answer with; OpenAPI and the docs follow this table."""
