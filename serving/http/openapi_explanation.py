"""OpenAPI for explanations, with the real model inputs and classes of the bundle."""

from __future__ import annotations

from contract.bundle import Bundle
from contract.explained import BundleExplanation, Space
from serving.http.openapi_parts import Part, object_schema

_BASE_VALUE = (
    "The score when no input is known: the mean over the training rows, weighted as the model "
    "weights them."
)
_SCORES: dict[Space, str] = {
    "log_odds": "the log-odds of `class`, or of the prediction of a regression",
    "class_score": "each class's score, of which the softmax is the probability",
    "probability": "the probability",
    "label": "the prediction",
    "log_label": "the logarithm of the prediction",
}


def explanation_schema(bundle: Bundle, spec: BundleExplanation) -> Part:
    """Return the schema of an answer's `explanation`."""
    names = [name for tensor in bundle.model.inputs for name in tensor.columns]
    output: Part = {
        "base_value": {"type": "number", "description": _BASE_VALUE},
        "contributions": object_schema(
            {name: {"type": "number"} for name in names},
            names,
            description="How much each model input moves the score of the row from the mean.",
        ),
    }
    properties: Part = {"score": {"const": spec.score}}
    classes = [str(name) for name in bundle.label.classes or ()]
    if len(classes) > 2 or spec.space == "class_score":
        each = {name: object_schema(output, list(output)) for name in classes}
        properties["classes"] = object_schema(each, classes)
    else:
        properties |= ({"class": {"const": classes[1]}} if classes else {}) | output
    before = " before its calibration" if spec.calibrated else ""
    schema = object_schema(
        properties,
        list(properties),
        description="Only with `include_explanations`; null where the prediction is. `base_value` "
        f"and the contributions add up to {_SCORES[spec.space]}{before}.",
    )
    return schema | {"type": ["object", "null"]}
