"""What may go wrong while a model is loaded and served, whoever reads the bundle."""

from __future__ import annotations


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


class InvalidOnlineValueError(ServingError):
    """The online store holds a value that the model cannot take."""

    status = 503
    code = "invalid_online_value"


class FeatureRangeError(ServingError):
    """A column holds a number that no model can take."""

    status = 422
    code = "invalid_feature_value"


class PredictionError(ServingError):
    """The model answered with something that is no finite number."""

    status = 500
    code = "prediction_failed"


class OnlineStoreUnavailableError(ServingError):
    """The online store does not answer."""

    status = 503
    code = "online_store_unavailable"
    retry_after = 1
