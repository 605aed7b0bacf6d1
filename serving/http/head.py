"""What the head of a request may have, and what a client learns of one that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from httptools import HttpParserCallbackError, HttpParserError

from contract.serving_errors import ServingError
from serving.http.asgi import Header
from serving.http_errors import HeadersTooLargeError, MalformedRequestError, UrlTooLongError

HEADER_BYTES = 32_768
_URL_BYTES = 8_192
_HEADERS = 100


def check_header(url: bytes, headers: Sequence[Header], most_bytes: int) -> None:
    """Refuse a header that is too large; it has `most_bytes` at most."""
    if len(url) > _URL_BYTES:
        raise UrlTooLongError(f"the URL is longer than {_URL_BYTES} bytes")
    if len(headers) > _HEADERS:
        raise HeadersTooLargeError(f"more than {_HEADERS} headers")
    if most_bytes > HEADER_BYTES:
        size = len(url) + sum(len(name) + len(value) for name, value in headers)
        if size > HEADER_BYTES:
            raise too_large("headers")


def too_large(what: str) -> HeadersTooLargeError:
    """Return the error of headers or trailers of too many bytes."""
    return HeadersTooLargeError(f"the {what} are larger than {HEADER_BYTES} bytes")


def unreadable(err: HttpParserError) -> ServingError:
    """Return what a client learns of a request that cannot be read."""
    if isinstance(err.__context__, ServingError):  # raised while a part of it was taken in
        return err.__context__
    if isinstance(err, HttpParserCallbackError):
        return MalformedRequestError("the URL cannot be read")
    if "PRI" in str(err):
        return MalformedRequestError("this server does not speak HTTP/2; send HTTP/1.1")
    return MalformedRequestError(f"not an HTTP/1.1 request: {err}")
