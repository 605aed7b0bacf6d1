"""OpenAPI for `POST /events/{table}` and `POST /push/{view}`."""

from __future__ import annotations

from typing import Any

from serving.http.openapi_parts import (
    REQUEST_ID,
    Part,
    error_responses,
    json_content,
    object_schema,
)
from serving.http_errors import EVENT_RESPONSES

_IDEMPOTENCY_KEY: Part = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "With its position, the id of a row that has none: a retry adds nothing.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
}
_POSITION = "In the request, from 0."


def describe_events(document: dict[str, Any], max_rows: int, secured: bool) -> None:
    """Complete the OpenAPI document with the endpoints that write.

    Parameters
    ----------
    secured
        Whether the server wants a key for it.
    """
    components = document["components"]
    components["schemas"] |= {
        "Events": _request("events", "Columns of the dbt source; one left out is null.", max_rows),
        "EventsAnswer": _answer({}),
        "PushedRows": _request("rows", "Entity keys, event time and every feature.", max_rows),
        "PushAnswer": _answer(
            {
                "older": {
                    "type": "integer",
                    "description": "How many of them are older than the value in the online store, "
                    "which stays.",
                }
            }
        ),
    }
    security: list[Part] = []
    if secured:
        components["securitySchemes"] = components.get("securitySchemes", {}) | {
            "EventKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "EventBearer": {"type": "http", "scheme": "bearer"},
        }
        security = [{"EventKey": []}, {"EventBearer": []}]
    document["paths"] |= {
        "/events/{table}": {"post": _events() | {"security": security}},
        "/push/{view}": {"post": _push() | {"security": security}},
    }


def _events() -> Part:
    return {
        "operationId": "events",
        "tags": ["events"],
        "summary": "Record events",
        "description": "Each event is in its table once, however often it is sent with the same "
        "id. Wrong ones are listed with the reason; they do not stop the others.",
        "parameters": [
            _named("table", "A table of a dbt source that takes events."),
            _IDEMPOTENCY_KEY,
        ],
        "requestBody": {"required": True, "content": json_content("Events")},
        "responses": _responses("Redis has confirmed every accepted event.", "EventsAnswer"),
    }


def _push() -> Part:
    return {
        "operationId": "push",
        "tags": ["events"],
        "summary": "Push feature values",
        "description": "Values computed elsewhere, for predictions at once and, once they are "
        "collected, for training. An older event time never replaces a newer one; if they are "
        "equal, the later push counts.",
        "parameters": [
            _named("view", "A feature view that takes pushed rows."),
            _IDEMPOTENCY_KEY,
        ],
        "requestBody": {"required": True, "content": json_content("PushedRows")},
        "responses": _responses("Redis has confirmed every accepted row.", "PushAnswer"),
    }


def _named(name: str, description: str) -> Part:
    schema: Part = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
    }


def _responses(description: str, answer: str) -> Part:
    good: Part = {
        "description": description,
        "content": json_content(answer),
        "headers": REQUEST_ID,
    }
    return {"200": good, **error_responses(EVENT_RESPONSES)}


def _request(name: str, description: str, max_rows: int) -> Part:
    rows: Part = {
        "type": "array",
        "items": {"type": "object"},
        "minItems": 1,
        "maxItems": max_rows,
        "description": description,
    }
    return object_schema({name: rows}, [name])


def _answer(more: Part) -> Part:
    rejected = object_schema(
        {
            "position": {"type": "integer", "description": _POSITION},
            "reason": {"type": "string"},
        },
        ["position", "reason"],
    )
    properties: Part = {
        "accepted": {"type": "integer", "description": "How many are recorded."},
        **more,
        "rejected": {"type": "array", "items": rejected},
    }
    return object_schema(properties, list(properties))
