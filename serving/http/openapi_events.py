"""OpenAPI for `POST /events/{table}`."""

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

_PARAMETERS: list[Part] = [
    {
        "name": "table",
        "in": "path",
        "required": True,
        "description": "A table of a dbt source that takes events.",
        "schema": {"type": "string", "minLength": 1},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Names the events that have no id of their own, by their positions.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
    },
]


def describe_events(document: dict[str, Any], max_rows: int, secured: bool) -> None:
    """Complete the OpenAPI document with `POST /events/{table}`.

    Parameters
    ----------
    secured
        Whether the server wants a key for events.
    """
    components = document["components"]
    components["schemas"] |= {
        "Events": _events(max_rows),
        "EventsAnswer": _answer(),
    }
    operation: Part = {
        "operationId": "events",
        "tags": ["events"],
        "summary": "Record events",
        "description": "Each event is in its table once, however often it is sent with the same "
        "id. Those that are wrong are named; they do not stop the others.",
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": json_content("Events")},
        "responses": {
            "200": {
                "description": "Redis has confirmed every accepted event.",
                "content": json_content("EventsAnswer"),
                "headers": REQUEST_ID,
            },
            **error_responses(EVENT_RESPONSES),
        },
        "security": [],
    }
    if secured:
        components["securitySchemes"] = components.get("securitySchemes", {}) | {
            "EventKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "EventBearer": {"type": "http", "scheme": "bearer"},
        }
        operation["security"] = [{"EventKey": []}, {"EventBearer": []}]
    document["paths"]["/events/{table}"] = {"post": operation}


def _events(max_rows: int) -> Part:
    events: Part = {
        "type": "array",
        "items": {"type": "object"},
        "minItems": 1,
        "maxItems": max_rows,
        "description": "Columns of the dbt source, one object an event. A column that is left out "
        "is null.",
    }
    return object_schema({"events": events}, ["events"])


def _answer() -> Part:
    rejected = object_schema(
        {
            "position": {"type": "integer", "description": "In the request, from 0."},
            "reason": {"type": "string"},
        },
        ["position", "reason"],
    )
    properties: Part = {
        "accepted": {"type": "integer", "description": "How many events are recorded."},
        "rejected": {"type": "array", "items": rejected},
    }
    return object_schema(properties, list(properties))
