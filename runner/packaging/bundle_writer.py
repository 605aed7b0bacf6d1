"""The serving bundle: the model and everything that serving must know of it.

`docs/serving.md` describes the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.bundle import DEFINITIONS
from contract.computed import ComputedColumn
from contract.feast_format import field_hash
from runner.feature_store.recipe_features import RecipeFeature, RequestInput
from runner.lineage.feature_definitions import FeatureDefinitions
from runner.modelling.model_inputs import InputColumn, model_columns
from runner.packaging.explanation import ServedExplanation
from runner.packaging.served_model import ServedModel
from runner.project.manifest import Spine

if TYPE_CHECKING:
    from runner.recipes.recipe import Recipe


def write_bundle(
    folder: Path,
    *,
    recipe: Recipe,
    spine: Spine,
    features: Sequence[RecipeFeature],
    request: Sequence[RequestInput],
    computed: Sequence[ComputedColumn],
    classes: list[Any] | None,
    model: ServedModel,
    explanation: ServedExplanation,
    definitions: FeatureDefinitions,
    examples: dict[str, Any],
    run: dict[str, Any],
) -> str:
    """Write the bundle into `folder` and return the sha256 of its serving.json.

    Parameters
    ----------
    explanation
        What explains the model's answers.
    definitions
        What the features are computed by.
    classes
        The labels the model predicts, in the order of its probabilities; None for regression.
    examples
        An example value per entity key and request input, for the API's docs.
    run
        `feast_project`, `run_id`, `created_at`, `metrics` and `lineage`.
    """
    files = {
        model.file: model.content,
        DEFINITIONS: definitions.content,
        **explanation.files,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    content = {
        "format_version": _format_version(model, features, recipe, computed),
        **run,
        "registered_model_name": recipe.registered_model_name,
        "task": recipe.task,
        "label": {
            "name": recipe.label,
            "description": spine.columns[recipe.label].description,
            "classes": classes,
            "decision_threshold": model.threshold,
        },
        "entity_keys": _entity_keys(spine, features, examples),
        "features": [_feature(feature, recipe, definitions) for feature in features],
        **({"request": [_given(given, spine, examples) for given in request]} if request else {}),
        **({"on_missing_entity": recipe.missing_rules} if recipe.missing_rules else {}),
        **({"computed": [asdict(column) for column in computed]} if computed else {}),
        "model": {
            "file": model.file,
            "format": model.format,
            "inputs": _inputs(model_columns([*features, *request], computed)),
            "proof": model.proof,
        },
        "explanation": explanation.content,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "recipe": recipe.dump(),
        "versions": {
            name: version(name) for name in ("scikit-learn", "skl2onnx", "onnxruntime", "feast")
        },
    }
    data = json.dumps(content, indent=2).encode()
    (folder / "serving.json").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _format_version(
    model: ServedModel,
    features: Sequence[RecipeFeature],
    recipe: Recipe,
    computed: Sequence[ComputedColumn],
) -> int:
    """Return the oldest format that says it all, so that older servers read what they can."""
    if recipe.request or recipe.missing_rules or computed or any(one.role for one in features):
        return 3
    return 1 if model.threshold is None else 2


def _inputs(columns: Sequence[InputColumn]) -> list[dict[str, Any]]:
    text = [column.column for column in columns if column.dtype == "string"]
    numeric = [column.column for column in columns if column.dtype != "string"]
    inputs = []
    if numeric:
        inputs.append({"name": "numeric", "type": "float", "columns": numeric})
    if text:
        inputs.append({"name": "text", "type": "string", "columns": text})
    return inputs


def _entity_keys(
    spine: Spine, features: Sequence[RecipeFeature], examples: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return all of the spine's, used or not: callers need not change with the features."""
    pairs = [(one.mart.columns[key], column) for one in features for key, column in one.keys]
    personal = {column for key, column in pairs if key.pii}
    personal |= {column.name for column in spine.columns.values() if column.pii}
    return [
        {
            "name": column.name,
            "dtype": column.dtype,
            "description": column.description,
            "example": None if column.name in personal else examples[column.name],
            "pii": column.name in personal,
        }
        for column in (spine.columns[key] for key in spine.join_keys)
    ]


def _feature(
    feature: RecipeFeature, recipe: Recipe, definitions: FeatureDefinitions
) -> dict[str, Any]:
    mart, role = feature.mart, {}
    if feature.role:
        role = {"role": feature.role, "key_columns": [column for _, column in feature.keys]}
    return {
        "name": feature.column,
        "view": mart.name,
        "feature": feature.name,
        "dtype": feature.dtype,
        "join_keys": sorted(mart.join_keys),
        "ttl_seconds": _seconds(mart.ttl),
        "redis_field": field_hash(mart.name, feature.name).hex(),
        "description": feature.description,
        "overridable": recipe.is_overridable(feature.reference),
        "pii": mart.columns[feature.name].pii,
        "definition": definitions.digests.get(f"{mart.name}:{feature.name}"),
        **role,
    }


def _given(given: RequestInput, spine: Spine, examples: dict[str, Any]) -> dict[str, Any]:
    is_personal = spine.columns[given.column].pii
    return {
        "name": given.column,
        "dtype": given.dtype,
        "description": given.description,
        "example": None if is_personal else examples[given.column],
        "pii": is_personal,
    }


def _seconds(ttl: timedelta | None) -> int | None:
    return None if ttl is None else int(ttl.total_seconds())
