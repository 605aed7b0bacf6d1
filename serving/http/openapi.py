"""OpenAPI for `POST /predict`, with the real entity keys, features and classes of the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract.bundle import Bundle, BundleFeature, BundleRequestInput
from contract.computed import COMPUTED, ComputedColumn
from contract.serving_errors import ServingError
from contract.view_layout import CHANGED, STATUSES
from serving.features.online import entity_key_schema
from serving.features.overrides import OVERRIDDEN
from serving.features.request_inputs import REQUEST
from serving.http.api_keys import PROBES
from serving.http_errors import RESPONSES, ForbiddenError, ModelNotReadyError, UnauthorizedError

_Part = dict[str, object]
"""A part of the document: it is built here and read by others."""

_VALUE_TYPES: dict[str, _Part] = {
    "int64": {"type": ["integer", "null"], "format": "int64"},
    "int32": {"type": ["integer", "null"], "format": "int32"},
    "float64": {"type": ["number", "null"]},
    "float32": {"type": ["number", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "string": {"type": ["string", "null"]},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
}
_STATUS_DOCS = (
    "present; null: stored as NULL; missing: never stored; expired: older than its ttl. "
    "All of these but present count as missing for the model. changed: present, but not computed "
    "as the feature that the model was trained on."
)


def describe_predict(
    document: dict[str, Any], bundle: Bundle, max_rows: int, secured: bool
) -> dict[str, Any]:
    """Return the OpenAPI document with `POST /predict` as the bundle defines it.

    Parameters
    ----------
    document
        The document of the other endpoints, as FastAPI makes it; it is changed in place.
    secured
        Whether the server wants an API key.
    """
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(
        {
            "EntityRow": _entity_row(bundle),
            "PredictRequest": _request(bundle, max_rows),
            "PredictResponse": _response(),
            "Prediction": _prediction(bundle),
            "RowError": _error_schema(["code", "message"]),
            "Error": _error_schema(["code", "message", "request_id"]),
        }
    )
    paths = document["paths"]
    for probe in PROBES:
        paths[probe]["get"]["security"] = []
    paths["/model"]["get"]["responses"] |= _error_responses(
        (UnauthorizedError, ForbiddenError, ModelNotReadyError)
    )
    document["paths"] = {"/predict": {"post": _operation(bundle)}} | paths
    if secured:
        components["securitySchemes"] = {
            "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        document["security"] = [{"ApiKey": []}, {"Bearer": []}]
    return document


def _operation(bundle: Bundle) -> _Part:
    return {
        "operationId": "predict",
        "tags": ["prediction"],
        "summary": f"Predict {bundle.label.name}",
        "description": bundle.label.description,
        "requestBody": {"required": True, "content": _json("PredictRequest")},
        "responses": {
            "200": {
                "description": "One answer per entity row, in the order of the request.",
                "content": _json("PredictResponse"),
                "headers": _REQUEST_ID,
            },
            **_error_responses(RESPONSES),
        },
    }


def _error_responses(errors: Sequence[type[ServingError]]) -> _Part:
    by_status: dict[int, list[str]] = {}
    every: Sequence[type[ServingError]] = (*errors, ServingError)
    for error in every:
        by_status.setdefault(error.status, []).append(f"`{error.code}`: {_summary(error)}")
    return {
        str(status): {
            "description": "\n\n".join(texts),
            "content": _json("Error"),
            "headers": _REQUEST_ID,
        }
        for status, texts in sorted(by_status.items())
    }


def _summary(error: type[ServingError]) -> str:
    if error is ServingError:
        return "A fault of the server; the log has it under the request id."
    return str(error.__doc__)


_REQUEST_ID: _Part = {
    "X-Request-ID": {
        "description": "The request's own id if it sent one, else one of ours; it is in the logs.",
        "schema": {"type": "string"},
    }
}


def _json(name: str) -> _Part:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _object(properties: Mapping[str, object], required: list[str], **more: object) -> _Part:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def _entity_row(bundle: Bundle) -> _Part:
    keys = {key.name: entity_key_schema(key) for key in bundle.entity_keys}
    given = {one.name: _request_input(one) for one in bundle.request}
    example = {one.name: one.example for one in bundle.sent if one.example is not None}
    more = {"examples": [example]} if len(example) == len(bundle.sent) else {}
    described = "The entity keys of one row"
    if given:
        described += ", and what the model takes from the request; null counts as missing"
    return _object({**keys, **given}, [*keys, *given], description=f"{described}.", **more)


def _request_input(given: BundleRequestInput) -> _Part:
    schema: _Part = _VALUE_TYPES[given.dtype] | {"description": given.description}
    return schema if given.example is None else schema | {"examples": [given.example]}


def _request(bundle: Bundle, max_rows: int) -> _Part:
    properties: _Part = {
        "entity_rows": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/EntityRow"},
            "minItems": 1,
            "maxItems": max_rows,
            "description": "The rows to predict for. A row in error does not fail the others.",
        },
        "include_features": {
            "type": "boolean",
            "default": False,
            "description": "Also return the features used, with their status and age.",
        },
        "strict": {
            "type": "boolean",
            "default": False,
            "description": "Fail the whole request when one row is in error.",
        },
    }
    if overridable := {f.name: _override(f) for f in bundle.features if f.overridable}:
        properties["feature_overrides"] = {
            "type": ["array", "null"],
            "items": _object(overridable, []) | {"type": ["object", "null"]},
            "maxItems": max_rows,
            "description": "For each entity row, in their order, the values that stand in for "
            "those of the online store. A value of null counts as missing.",
        }
    return _object(properties, ["entity_rows"])


def _override(feature: BundleFeature) -> _Part:
    return _VALUE_TYPES[feature.dtype] | {"description": feature.description}


def _response() -> _Part:
    name_and_version = {"name": {"type": "string"}, "version": {"type": "string"}}
    answers = [
        {"$ref": "#/components/schemas/Prediction"},
        {"$ref": "#/components/schemas/RowError"},
    ]
    properties = {
        "model": _object(name_and_version, list(name_and_version)),
        "predictions": {"type": "array", "items": {"oneOf": answers}},
    }
    return _object(properties, list(properties))


def _prediction(bundle: Bundle) -> _Part:
    classes = bundle.label.classes
    null = "null" in bundle.on_missing_entity.values()
    label: _Part = {"type": ["number", "null"] if null else "number"}
    if classes is not None:
        label = {"enum": [*classes, *([None] if null else [])]}
    properties: _Part = {"prediction": label | {"description": bundle.label.description}}
    required = ["prediction", "missing_views"]
    if classes is not None:
        names = [str(name) for name in classes]
        share: _Part = {"type": "number", "minimum": 0, "maximum": 1.000001}
        if null:
            share["type"] = ["number", "null"]
        properties["probabilities"] = _object(dict.fromkeys(names, share), names)
        required.append("probabilities")
    views = list(bundle.missing_views.positions)
    view: _Part = {"enum": views} if views else {"type": "string"}
    properties["missing_views"] = {
        "type": "array",
        "items": view,
        "description": "Views that have no value for the row: an unknown key, or expired values.",
    }
    features = {feature.name: _feature(feature) for feature in bundle.features}
    features |= {given.name: _given(given) for given in bundle.request}
    features |= {column.name: _computed(column) for column in bundle.computed}
    properties["features"] = _object(
        features, list(features), description="Only with `include_features`."
    )
    return _object(properties, required)


def _feature(feature: BundleFeature) -> _Part:
    ttl = "" if feature.ttl_seconds is None else f" Expires after {feature.ttl_seconds:g} s."
    statuses, docs = [*STATUSES, CHANGED], _STATUS_DOCS
    if feature.overridable:
        statuses.append(OVERRIDDEN)
        docs += f" {OVERRIDDEN}: its value came with the request."
    properties = {
        "value": _VALUE_TYPES[feature.dtype],
        "status": {"enum": statuses, "description": docs},
        "age_seconds": {"type": ["number", "null"], "description": "Since its event time."},
    }
    return _object(properties, list(properties), description=f"{feature.description}{ttl}".strip())


def _given(given: BundleRequestInput) -> _Part:
    status: _Part = {"enum": [REQUEST], "description": f"{REQUEST}: it came with the request."}
    return _ageless(_VALUE_TYPES[given.dtype], status, given.description)


def _computed(column: ComputedColumn) -> _Part:
    status: _Part = {
        "enum": [COMPUTED],
        "description": f"{COMPUTED}: from other inputs.",
    }
    return _ageless(_VALUE_TYPES[column.dtype], status, f"Computed: {column.written}")


def _ageless(value: _Part, status: _Part, description: str) -> _Part:
    properties: _Part = {"value": value, "status": status, "age_seconds": {"type": "null"}}
    return _object(properties, list(properties), description=description)


def _error_schema(fields: list[str]) -> _Part:
    error = _object({name: {"type": "string"} for name in fields}, fields)
    return _object({"error": error}, ["error"])
