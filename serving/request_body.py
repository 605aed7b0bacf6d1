"""What a prediction request says, read from its bytes; what is wrong with them is named."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from contract.serving_settings import Limits
from serving.http_errors import InvalidRequestError, RequestTooLargeError

_FIELDS = frozenset(
    {"entity_rows", "feature_overrides", "include_explanations", "include_features", "strict"}
)
_NOT_NUMBERS = re.compile(r"-?(?:NaN|Infinity)")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    (b"\x1f\x8b", "gzip"),
)


class PredictRequest(NamedTuple):
    """A request that can be read; its rows are looked at one by one.

    Attributes
    ----------
    feature_overrides
        As many as entity rows; None = nothing is overridden in any of them.
    """

    entity_rows: list[Any]
    feature_overrides: list[Any] | None
    include_features: bool
    strict: bool
    include_explanations: bool = False


def read_request(body: bytes, limits: Limits) -> PredictRequest:
    """Return the request in `body`.

    Raises
    ------
    InvalidRequestError, RequestTooLargeError
        If it is none, or one of more rows than allowed.
    """
    content = _read_object(body, "entity_rows", ("entity_rows", "feature_overrides"), _FIELDS)
    rows = _listed(content, "entity_rows", "entity rows", limits)
    overrides = content.get("feature_overrides")
    if overrides is not None and (not isinstance(overrides, list) or len(overrides) != len(rows)):
        raise InvalidRequestError(
            "feature_overrides must be a list of one object, or null, for each of the "
            f"{len(rows)} entity rows"
        )
    return PredictRequest(
        rows,
        overrides,
        _flag(content, "include_features"),
        _flag(content, "strict"),
        _flag(content, "include_explanations"),
    )


def read_events(body: bytes, limits: Limits) -> list[Any]:
    """Return the events in `body`.

    Raises
    ------
    InvalidRequestError, RequestTooLargeError
        If it has no events, or more than allowed.
    """
    content = _read_object(body, "events", ("events",), frozenset({"events"}))
    return _listed(content, "events", "events", limits)


def read_rows(body: bytes, limits: Limits) -> list[Any]:
    """Return the pushed rows in `body`; raises as `read_events`."""
    content = _read_object(body, "rows", ("rows",), frozenset({"rows"}))
    return _listed(content, "rows", "rows", limits)


def _read_object(
    body: bytes, example: str, lists: Sequence[str], fields: frozenset[str]
) -> dict[str, Any]:
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise InvalidRequestError(f"the body is not JSON: {_reason(body, err)}") from err
    if not isinstance(content, dict):
        raise InvalidRequestError(f'the body is not an object such as {{"{example}": [...]}}')
    _refuse_repeated_keys(body, content, lists)
    if unknown := sorted(content.keys() - fields):
        known = ", ".join(sorted(fields))
        raise InvalidRequestError(f"{unknown[0]!r} is not a field; those are {known}")
    return content


def _listed(content: dict[str, Any], name: str, what: str, limits: Limits) -> list[Any]:
    rows = content.get(name)
    if not isinstance(rows, list) or not rows:
        raise InvalidRequestError(f"{name} must be a list of one or more {what}")
    if len(rows) > limits.rows:
        raise RequestTooLargeError(f"{len(rows)} {what}; the limit is {limits.rows}")
    return rows


def _flag(content: dict[str, Any], name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be true or false")
    return value


def _reason(body: bytes, err: orjson.JSONDecodeError) -> str:
    """Return what is wrong, and where."""
    for start, encoding in _OTHER_ENCODINGS:
        if body.startswith(start):
            return f"it is {encoding}; send UTF-8"
    if b"\0" in body[:4]:
        return "it looks like UTF-16 or UTF-32; send UTF-8"
    try:
        body.decode()
    except UnicodeDecodeError as undecoded:
        return f"byte {undecoded.start} is not UTF-8"
    # orjson points behind a sign
    found = _NOT_NUMBERS.match(err.doc, err.pos - 1) or _NOT_NUMBERS.match(err.doc, err.pos)
    if found is not None:
        column = err.colno - (err.pos - found.start())
        return f"{found[0]} at line {err.lineno} column {column} is not JSON; send null"
    return f"{err.msg} at line {err.lineno} column {err.colno}"


def _refuse_repeated_keys(body: bytes, content: dict[str, Any], lists: Sequence[str]) -> None:
    """Refuse a key given twice in one object: parsers differ in which of the values they take.

    orjson does not say so, and a parser that does is slower by far. Each key has a colon, so as
    many colons as keys mean that none was lost.
    """
    keys = len(content)
    for name in lists:
        rows = content.get(name)
        if isinstance(rows, list):
            keys += sum([len(row) for row in rows if type(row) is dict])
    if body.count(b":") == keys or _STRING.sub(b"", body).count(b":") == keys:
        return
    try:
        json.loads(body, object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except RecursionError as err:
        raise InvalidRequestError("the body is nested too deeply") from err


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidRequestError(f"{name!r} is given twice in one object")
        seen.add(name)
