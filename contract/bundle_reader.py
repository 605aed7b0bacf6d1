"""Read a serving bundle: check its digests, its format, and that it does not contradict itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from contract.bundle import MANIFEST, Bundle, BundleFeature, read_whole
from contract.computed import computed_problems
from contract.serving_errors import BundleError

# 2 has a decision threshold: a reader of 1 would ignore it and answer another class.
# 3 has request inputs, roles, computed columns or on_missing_entity: a reader of 2 would ignore
# them.
FORMAT_VERSIONS = (1, 2, 3)
_RAW = TypeAdapter(dict[str, Any])
_READER = TypeAdapter(Bundle)


def read_bundle(folder: Path, expected_sha256: str | None = None) -> Bundle:
    """Return the bundle in `folder`, with every file checked against its digest.

    Parameters
    ----------
    expected_sha256
        The model version's tag `serving_bundle_sha256`; None where no registry is involved.

    Raises
    ------
    BundleError
        If a file is missing or changed, or `serving.json` is of another format or contradicts
        itself.
    """
    path = folder / MANIFEST
    content = read_whole(path)
    digest = hashlib.sha256(content).hexdigest()
    if expected_sha256 is not None and digest != expected_sha256:
        raise BundleError(
            f"{path}: SHA-256 {digest} is not the registered {expected_sha256}",
            hint="train again, or move the alias back to an intact version",
        )
    bundle = _parse(path, content, digest)
    problems = list(_contradictions(bundle))
    if problems:
        raise BundleError(f"{path}: {'; '.join(problems)}", hint="train again")
    for name in bundle.files:
        bundle.read_file(name)
    return bundle


def _parse(path: Path, content: bytes, digest: str) -> Bundle:
    try:
        raw = _RAW.validate_json(content)
        if raw.get("format_version") not in FORMAT_VERSIONS:
            raise BundleError(
                f"{path}: format_version {raw.get('format_version')!r}, this server reads 1 to "
                f"{FORMAT_VERSIONS[-1]}",
                hint="use the serving package of the release that trained the model",
            )
        return _READER.validate_python(raw | {"folder": path.parent, "digest": digest})
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise BundleError(f"{path}: {where}: {first['msg']}", hint="train again") from err


def _contradictions(bundle: Bundle) -> list[str]:
    """Return what `serving.json` says in two different ways; empty when it is sound."""
    problems = []
    if (bundle.task == "classification") != (len(bundle.label.classes or ()) > 1):
        problems.append("label.classes: expected two or more for a classification, else null")
    if bundle.label.decision_threshold is not None and len(bundle.label.classes or ()) != 2:
        problems.append("label.decision_threshold: expected null unless there are two classes")
    if bundle.model.file not in bundle.files:
        problems.append(f"files: no digest of {bundle.model.file}")
    problems += [
        f"files: {name} is not a plain file name"
        for name in bundle.files
        if Path(name).name != name
    ]
    if bundle.explanation is not None:
        problems += bundle.explanation.problems(bundle.files, bundle.model.format)
    names = Counter(column.name for column in bundle.row)
    problems += [f"features: {name} appears twice" for name, count in names.items() if count > 1]
    problems += _request_problems(bundle)
    problems += computed_problems(bundle.computed, bundle.row_dtypes)
    return problems + _key_problems(bundle) + _view_problems(bundle) + _input_problems(bundle)


def _request_problems(bundle: Bundle) -> list[str]:
    keys = {key.name for key in bundle.entity_keys}
    problems = [
        f"request.{given.name}: is an entity key too"
        for given in bundle.request
        if given.name in keys
    ]
    if bundle.format_version < 3:
        expected = f"expected none in format_version {bundle.format_version}"
        problems += [f"request: {expected}"] if bundle.request else []
        problems += [f"computed: {expected}"] if bundle.computed else []
        problems += [f"features.{f.name}.role: {expected}" for f in bundle.features if f.role]
        problems += [f"on_missing_entity: {expected}"] if bundle.on_missing_entity else []
    projections = {feature.projection for feature in bundle.features}
    problems += [
        f"on_missing_entity.{name}: no feature is of it"
        for name in bundle.on_missing_entity
        if name not in projections
    ]
    return problems


def _key_problems(bundle: Bundle) -> list[str]:
    known = {key.name for key in bundle.entity_keys}
    return [
        f"features.{feature.name}: join_keys must be sorted names out of entity_keys"
        for feature in bundle.features
        if list(feature.join_keys) != sorted(set(feature.join_keys))
        or len(feature.keys) != len(feature.join_keys)
        or not known.issuperset(feature.keys)
    ]


def _view_problems(bundle: Bundle) -> list[str]:
    seen: dict[str, tuple[object, ...]] = {}
    return [
        f"features.{feature.name}: join_keys, key_columns and ttl_seconds differ within view "
        f"{feature.projection}"
        for feature in bundle.features
        if seen.setdefault(feature.projection, _of_view(feature)) != _of_view(feature)
    ]


def _of_view(feature: BundleFeature) -> tuple[object, ...]:
    return feature.join_keys, feature.keys, feature.ttl_seconds


def _input_problems(bundle: Bundle) -> list[str]:
    dtypes = bundle.column_dtypes
    problems = []
    for tensor in bundle.model.inputs:
        for column in tensor.columns:
            if column not in dtypes:
                problems.append(
                    f"model.inputs.{tensor.name}: {column} is not a feature or request input, nor "
                    "computed"
                )
            elif dtypes[column] == "timestamp":
                problems.append(f"model.inputs.{tensor.name}: {column} is a timestamp")
            elif (dtypes[column] == "string") != (tensor.type == "string"):
                problems.append(
                    f"model.inputs.{tensor.name}: {column} is {dtypes[column]}, "
                    f"the tensor is {tensor.type}"
                )
    return problems
