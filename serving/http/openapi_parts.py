"""Parts of the OpenAPI document that its operations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contract.serving_errors import ServingError

Part = dict[str, object]
"""A part of the document: it is built here and read by others."""

REQUEST_ID: Part = {
    "X-Request-ID": {
        "description": "The request's own id if it sent one, else one of ours; it is in the logs.",
        "schema": {"type": "string"},
    }
}


def json_content(name: str) -> Part:
    """Return JSON content of the schema of that name."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def object_schema(properties: Mapping[str, object], required: list[str], **more: object) -> Part:
    """Return the schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def error_responses(errors: Sequence[type[ServingError]]) -> Part:
    """Return the answers of an operation that may fail so, by status."""
    by_status: dict[int, list[str]] = {}
    every: Sequence[type[ServingError]] = (*errors, ServingError)
    for error in every:
        by_status.setdefault(error.status, []).append(f"`{error.code}`: {_summary(error)}")
    return {
        str(status): {
            "description": "\n\n".join(texts),
            "content": json_content("Error"),
            "headers": REQUEST_ID,
        }
        for status, texts in sorted(by_status.items())
    }


def _summary(error: type[ServingError]) -> str:
    if error is ServingError:
        return "A fault of the server; the log has it under the request id."
    return str(error.__doc__)
