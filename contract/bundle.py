"""Read a serving bundle: the folder that holds a model and all that is needed to serve it.

`serving.json` says what the model is, which entity keys identify a row, which features it takes
and where they lie in the online store. Every other file's SHA-256 is in `serving.json`; the
SHA-256 of `serving.json` itself is a tag of the model version, so nothing can change unseen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from contract.computed import ComputedColumn, computed_problems
from contract.explained import BundleExplanation
from contract.missing_views import MissingViews, OnMissing
from contract.serving_errors import BundleError

# 2 has a decision threshold, which a reader of 1 would pass over and answer another class.
# 3 has request inputs, roles, computed columns or on_missing_entity, which a reader of 2 would
# pass over.
FORMAT_VERSIONS = (1, 2, 3)
MANIFEST = "serving.json"
DEFINITIONS = "definitions.json"
"""The file of what the features are computed by; bundles of earlier releases have none."""

EntityDtype = Literal["int64", "int32", "string", "timestamp"]
FeatureDtype = Literal["int64", "int32", "float64", "float32", "bool", "string", "timestamp"]
Name = Annotated[str, Field(min_length=1)]
_HASH_BYTES = 4


def _hash_from_hex(value: object) -> bytes:
    raw = bytes.fromhex(value) if isinstance(value, str) else value
    if not isinstance(raw, bytes) or len(raw) != _HASH_BYTES:
        raise ValueError("expected 8 hexadecimal digits")
    return raw


@dataclass(frozen=True)
class BundleKey:
    """One column of the entity key, as clients send it.

    Attributes
    ----------
    pii
        Whether it is personal data: the serving log has its SHA-256.
    """

    name: Name
    dtype: EntityDtype
    description: str = ""
    example: Any = None
    pii: bool = False


@dataclass(frozen=True)
class BundleFeature:
    """One feature: a column of the model, and where its value lies in the online store.

    Attributes
    ----------
    name
        The model's column, `<view>__<feature>` or, of a view in a role, `<role>__<feature>`.
    join_keys
        Join keys of the view, sorted; empty for a view without entities.
    ttl_seconds
        Older values count as missing; None = values never expire.
    redis_field
        Feast's 4-byte hash of `<view>:<feature>`.
    overridable
        Whether a request may bring its own value.
    pii
        Whether it is personal data: the serving log leaves its values out.
    definition
        Digest of what it is computed by; None: not recorded.
    role, key_columns
        Which of several entities of one kind it is of, such as `sender`, and the entity keys that
        stand in for `join_keys`, one each; empty: no role, and the join keys themselves.
    """

    name: Name
    view: Name
    feature: Name
    dtype: FeatureDtype
    join_keys: tuple[str, ...]
    redis_field: Annotated[bytes, PlainValidator(_hash_from_hex)]
    ttl_seconds: Annotated[float, Field(gt=0)] | None = None
    description: str = ""
    overridable: bool = False
    pii: bool = False
    definition: str | None = None
    role: str = ""
    key_columns: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The entity keys whose values are those of the join keys, one each."""
        return self.key_columns or self.join_keys

    @property
    def projection(self) -> str:
        """The view, with the role that it is read in: `view` or `view[role]`."""
        return f"{self.view}[{self.role}]" if self.role else self.view


@dataclass(frozen=True)
class BundleRequestInput:
    """A model input that clients send beside the entity keys: a column of the spine.

    It has one name everywhere: in the spine, in the request, in a file of `runner predict`, and
    among the model's columns.

    Attributes
    ----------
    pii
        Whether it is personal data: the serving log leaves its values out.
    """

    name: Name
    dtype: FeatureDtype
    description: str = ""
    example: Any = None
    pii: bool = False


@dataclass(frozen=True)
class ModelInput:
    """One tensor of shape (n_rows, len(columns)): float32, or text."""

    name: Name
    type: Literal["float", "string"]
    columns: Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True)
class ModelFile:
    """The model's file and its input tensors."""

    file: Name
    format: Literal["onnx", "skops"]
    inputs: Annotated[tuple[ModelInput, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Label:
    """What is predicted.

    Attributes
    ----------
    classes
        None for a regression.
    decision_threshold
        The least probability of the second of two classes at which it is the prediction; None:
        the most probable class is.
    """

    name: Name
    description: str = ""
    classes: tuple[StrictInt | StrictStr, ...] | None = None
    decision_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


@dataclass(frozen=True)
class Bundle:
    """A serving bundle whose every file matched its digest when it was read.

    Attributes
    ----------
    on_missing_entity
        What to do where a view has nothing, by projection; `predict` for the others.
    explanation
        None: the bundle was written before explanations existed.
    folder, digest
        Where it was read from, and the SHA-256 of its `serving.json` (hex).
    """

    format_version: Literal[1, 2, 3]
    feast_project: Name
    registered_model_name: Name
    run_id: str
    created_at: str
    task: Literal["classification", "regression"]
    label: Label
    entity_keys: tuple[BundleKey, ...]
    features: tuple[BundleFeature, ...]
    model: ModelFile
    files: dict[str, str]
    request: tuple[BundleRequestInput, ...] = ()
    on_missing_entity: dict[str, OnMissing] = field(default_factory=dict)
    computed: tuple[ComputedColumn, ...] = ()
    explanation: BundleExplanation | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()
    digest: str = ""

    @property
    def row(self) -> tuple[BundleFeature | BundleRequestInput, ...]:
        """The columns of a row as the model is handed it: features, then request inputs."""
        return (*self.features, *self.request)

    @property
    def row_dtypes(self) -> dict[str, str]:
        """Column → type of a row before anything is computed: features, then request inputs."""
        return {column.name: column.dtype for column in self.row}

    @property
    def sent(self) -> tuple[BundleKey | BundleRequestInput, ...]:
        """What clients send of each row: entity keys and request inputs."""
        return (*self.entity_keys, *self.request)

    @property
    def missing_views(self) -> MissingViews:
        """What finds the views that have nothing for a row."""
        return MissingViews([one.projection for one in self.features], self.on_missing_entity)

    @property
    def column_dtypes(self) -> dict[str, str]:
        """Column → type of a row as the model is handed it: `row_dtypes`, then computed columns."""
        return self.row_dtypes | {column.name: column.dtype for column in self.computed}

    def read_file(self, name: str) -> bytes:
        """Return the content of the bundle's file `name`, checked against its digest.

        Raises
        ------
        BundleError
            If the file is missing or its content is not what was exported.
        """
        path = self.folder / name
        content = _read(path)
        if hashlib.sha256(content).hexdigest() != self.files[name]:
            raise BundleError(
                f"{path}: content does not match the SHA-256 in {MANIFEST}",
                hint="train again; never edit a bundle",
            )
        return content


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
    content = _read(path)
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise BundleError(
            f"{path}: cannot be read ({err.strerror})", hint="train again to export a bundle"
        ) from err


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


_RAW = TypeAdapter(dict[str, Any])


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
        told = f"expected none in format_version {bundle.format_version}"
        problems += [f"request: {told}"] if bundle.request else []
        problems += [f"computed: {told}"] if bundle.computed else []
        problems += [f"features.{f.name}.role: {told}" for f in bundle.features if f.role]
        problems += [f"on_missing_entity: {told}"] if bundle.on_missing_entity else []
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
