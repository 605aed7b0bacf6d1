"""OpenAPI for `POST /predict`, with the real entity keys, features and classes of the bundle."""

from __future__ import annotations

from typing import Any

from contract.bundle import Bundle, BundleFeature, BundleRequestInput
from contract.computed import COMPUTED, ComputedColumn
from contract.view_layout import CHANGED, STATUSES
from serving.features.entity_keys import entity_key_schema
from serving.features.overrides import OVERRIDDEN
from serving.features.request_inputs import REQUEST
from serving.http.api_keys import PROBES
from serving.http.openapi_explanation import explanation_schema
from serving.http.openapi_parts import (
    REQUEST_ID,
    Part,
    error_responses,
    json_content,
    object_schema,
)
from serving.http_errors import RESPONSES, ForbiddenError, ModelNotReadyError, UnauthorizedError

_VALUE_TYPES: dict[str, Part] = {
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
) -> None:
    """Complete the OpenAPI document with `POST /predict` as the bundle defines it.

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
    paths["/model"]["get"]["responses"] |= error_responses(
        (UnauthorizedError, ForbiddenError, ModelNotReadyError)
    )
    document["paths"] = {"/predict": {"post": _operation(bundle)}} | paths
    if secured:
        components["securitySchemes"] = {
            "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        document["security"] = [{"ApiKey": []}, {"Bearer": []}]


def _operation(bundle: Bundle) -> Part:
    return {
        "operationId": "predict",
        "tags": ["prediction"],
        "summary": f"Predict {bundle.label.name}",
        "description": bundle.label.description,
        "requestBody": {"required": True, "content": json_content("PredictRequest")},
        "responses": {
            "200": {
                "description": "One answer per entity row, in the order of the request.",
                "content": json_content("PredictResponse"),
                "headers": REQUEST_ID,
            },
            **error_responses(RESPONSES),
        },
    }


def _entity_row(bundle: Bundle) -> Part:
    keys = {key.name: entity_key_schema(key) for key in bundle.entity_keys}
    given = {one.name: _request_input(one) for one in bundle.request}
    example = {one.name: one.example for one in bundle.sent if one.example is not None}
    more = {"examples": [example]} if len(example) == len(bundle.sent) else {}
    described = "The entity keys of one row"
    if given:
        described += ", and what the model takes from the request; null counts as missing"
    return object_schema({**keys, **given}, [*keys, *given], description=f"{described}.", **more)


def _request_input(given: BundleRequestInput) -> Part:
    schema: Part = _VALUE_TYPES[given.dtype] | {"description": given.description}
    return schema if given.example is None else schema | {"examples": [given.example]}


def _request(bundle: Bundle, max_rows: int) -> Part:
    properties: Part = {
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
        "include_explanations": {
            "type": "boolean",
            "default": False,
            "description": "Also return what each model input contributes to the score.",
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
            "items": object_schema(overridable, []) | {"type": ["object", "null"]},
            "maxItems": max_rows,
            "description": "For each entity row, in their order, the values that stand in for "
            "those of the online store. A value of null counts as missing.",
        }
    return object_schema(properties, ["entity_rows"])


def _override(feature: BundleFeature) -> Part:
    return _VALUE_TYPES[feature.dtype] | {"description": feature.description}


def _response() -> Part:
    name_and_version = {"name": {"type": "string"}, "version": {"type": "string"}}
    answers = [
        {"$ref": "#/components/schemas/Prediction"},
        {"$ref": "#/components/schemas/RowError"},
    ]
    properties = {
        "model": object_schema(name_and_version, list(name_and_version)),
        "predictions": {"type": "array", "items": {"oneOf": answers}},
    }
    return object_schema(properties, list(properties))


def _prediction(bundle: Bundle) -> Part:
    classes = bundle.label.classes
    null = "null" in bundle.on_missing_entity.values()
    label: Part = {"type": ["number", "null"] if null else "number"}
    if classes is not None:
        label = {"enum": [*classes, *([None] if null else [])]}
    properties: Part = {"prediction": label | {"description": bundle.label.description}}
    required = ["prediction", "missing_views"]
    if classes is not None:
        names = [str(name) for name in classes]
        share: Part = {"type": "number", "minimum": 0, "maximum": 1.000001}
        if null:
            share["type"] = ["number", "null"]
        properties["probabilities"] = object_schema(dict.fromkeys(names, share), names)
        required.append("probabilities")
    views = list(bundle.missing_views.positions)
    view: Part = {"enum": views} if views else {"type": "string"}
    properties["missing_views"] = {
        "type": "array",
        "items": view,
        "description": "Views that have no value for the row: an unknown key, or expired values.",
    }
    features = {feature.name: _feature(feature) for feature in bundle.features}
    features |= {given.name: _given(given) for given in bundle.request}
    features |= {column.name: _computed(column) for column in bundle.computed}
    properties["features"] = object_schema(
        features, list(features), description="Only with `include_features`."
    )
    if bundle.explanation is not None and bundle.explanation.in_requests:
        properties["explanation"] = explanation_schema(bundle, bundle.explanation)
    return object_schema(properties, required)


def _feature(feature: BundleFeature) -> Part:
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
    return object_schema(
        properties, list(properties), description=f"{feature.description}{ttl}".strip()
    )


def _given(given: BundleRequestInput) -> Part:
    status: Part = {"enum": [REQUEST], "description": f"{REQUEST}: it came with the request."}
    return _ageless(_VALUE_TYPES[given.dtype], status, given.description)


def _computed(column: ComputedColumn) -> Part:
    status: Part = {
        "enum": [COMPUTED],
        "description": f"{COMPUTED}: from other inputs.",
    }
    return _ageless(_VALUE_TYPES[column.dtype], status, f"Computed: {column.written}")


def _ageless(value: Part, status: Part, description: str) -> Part:
    properties: Part = {"value": value, "status": status, "age_seconds": {"type": "null"}}
    return object_schema(properties, list(properties), description=description)


def _error_schema(fields: list[str]) -> Part:
    error = object_schema({name: {"type": "string"} for name in fields}, fields)
    return object_schema({"error": error}, ["error"])
