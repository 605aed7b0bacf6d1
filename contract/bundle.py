"""A serving bundle: the folder that holds a model and all that is needed to serve it.

`serving.json` says what the model is, which entity keys identify a row, which features it takes
and where they lie in the online store. Every other file's SHA-256 is in `serving.json`; the
SHA-256 of `serving.json` itself is a tag of the model version, so nothing can change unseen.
"""

from __future__ import annotations

import hashlib
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, StrictInt, StrictStr
from pydantic.dataclasses import dataclass

from contract.computed import ComputedColumn
from contract.explained import BundleExplanation
from contract.missing_views import MissingViews, OnMissing
from contract.serving_errors import BundleError

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
        the prediction is the most probable class.
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
        content = read_whole(path)
        if hashlib.sha256(content).hexdigest() != self.files[name]:
            raise BundleError(
                f"{path}: content does not match the SHA-256 in {MANIFEST}",
                hint="train again; never edit a bundle",
            )
        return content


def read_whole(path: Path) -> bytes:
    """Return the content of a bundle's file, not checked.

    Raises
    ------
    BundleError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as err:
        raise BundleError(
            f"{path}: cannot be read ({err.strerror})", hint="train again to export a bundle"
        ) from err
