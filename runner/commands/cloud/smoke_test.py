"""The story of `runner smoke-test`: a running API is ready and answers as the batch does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, cast

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from contract.bundle import Bundle
from contract.scoring import Model
from runner.commands.cloud.api_client import ApiClient
from runner.commands.predictions.prediction import scored_rows
from runner.errors import RunnerError
from runner.feature_store.nullable_types import NULLABLE
from runner.packaging.served_version import load_version, require_features
from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, load_manifest
from runner.servers.local_servers import require_servers
from runner.settings import Settings
from runner.warehouse.mart_snapshot import COLUMN_TYPES, KEY_TYPES
from runner.warehouse.open_mart import open_mart

_TOLERANCE = 1e-4
"""The API and the batch score with the same code; features of elapsed time are seconds apart."""


class _OneAnswer(BaseModel):
    prediction: float | str | None
    probabilities: dict[str, float | None] | None = None
    missing_views: list[str]

    @property
    def numbers(self) -> Mapping[str, float | None]:
        return self.probabilities or {"prediction": cast("float | None", self.prediction)}


class _AnsweringModel(BaseModel):
    name: str
    version: str


class _Answers(BaseModel):
    model: _AnsweringModel
    predictions: Annotated[list[_OneAnswer], Field(min_length=1, max_length=1)]


@dataclass(frozen=True)
class SmokeTest:
    """An answer that both gave.

    Attributes
    ----------
    numbers
        The probability of each class; of a regression the prediction itself.
    missing_views
        Views that have no values for the row.
    """

    model: str
    version: str
    numbers: Mapping[str, float | None]
    missing_views: frozenset[str]


def smoke_test(settings: Settings, name: str, url: str) -> SmokeTest:
    """Return the API's answer for an entity of the feature marts, equal to the batch's answer.

    Parameters
    ----------
    name
        The registered model that the API serves.
    url
        The API's address.

    Raises
    ------
    RunnerError
        If the API is not ready, serves another version than the champion, or does not answer as
        `runner predict` does.
    """
    api = ApiClient(url, settings.env.get("SERVING_API_KEYS", ""))
    api.get("/ready")  # refuses with 503 unless it is
    require_servers(settings)
    model, version = load_version(settings, f"models:/{name}@champion")
    marts = load_manifest(settings.manifest_path).marts
    require_features(model.bundle, marts, f"{name} version {version}")
    row = _sampled_row(settings, model.bundle, marts)
    answered = _answered(api, name, version, row)
    expected = _expected(settings, model, row)
    _require_equal(answered, expected, url)
    return SmokeTest(name, version, *answered)


Answer = tuple[Mapping[str, float | None], frozenset[str]]
"""Numbers and missing views, as `SmokeTest` has them."""


def _sampled_row(
    settings: Settings, bundle: Bundle, marts: Mapping[str, FeatureMart]
) -> dict[str, object]:
    """Return entity keys that a mart has, widest view first, and the example request inputs."""
    row: dict[str, object] = {}
    views = {feature.projection: feature for feature in bundle.features}
    for feature in sorted(views.values(), key=lambda one: len(one.keys), reverse=True):
        if set(feature.keys) <= row.keys():
            continue
        with open_mart(settings, marts[feature.view]) as snapshot:
            sample = snapshot.sample(1)
        if sample:
            found = zip(feature.keys, (sample[0][key] for key in feature.join_keys), strict=True)
            row = dict(found) | row
    for sent in bundle.sent:
        row.setdefault(sent.name, sent.example)
    unknown = [key.name for key in bundle.entity_keys if row[key.name] is None]
    if unknown:
        raise RunnerError(
            f"no feature mart has an entity with a {unknown[0]}",
            hint="run `dbt build`, then try again",
        )
    return row


def _answered(api: ApiClient, name: str, version: str, row: Mapping[str, object]) -> Answer:
    """Return what the API answers; raises unless the champion does."""
    sent = {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in row.items()
    }
    # Strict: if the API refuses the row, it answers with the reason, which ApiClient raises.
    body = {"entity_rows": [sent], "strict": True}
    try:
        answer = _Answers.model_validate(api.post("/predict", body))
    except ValidationError as err:
        raise RunnerError(
            f"{api.url}/predict does not answer with a prediction", hint="name another --url"
        ) from err
    served, [one] = (answer.model.name, answer.model.version), answer.predictions
    if served != (name, version):
        raise RunnerError(
            f"{api.url} serves {served[0]} version {served[1]}; the champion is {name} version "
            f"{version}",
            hint="look in its log for why it refused the champion, or name another --url",
        )
    return one.numbers, frozenset(one.missing_views)


def _expected(settings: Settings, model: Model, row: Mapping[str, object]) -> Answer:
    """Return what the batch answers for the same row, as of now."""
    bundle = model.bundle
    kinds = {key.name: KEY_TYPES[key.dtype] for key in bundle.entity_keys}
    kinds |= {given.name: COLUMN_TYPES[given.dtype] for given in bundle.request}
    columns = {name: pa.array([row[name]]).cast(kind) for name, kind in kinds.items()}
    entity_df: pd.DataFrame = pa.table(columns).to_pandas(types_mapper=NULLABLE.get)
    entity_df[EVENT_TIMESTAMP] = pd.Timestamp(datetime.now(UTC))
    [scored] = scored_rows(settings, model, entity_df).to_pylist()
    classes = bundle.label.classes
    if classes is None:
        numbers = {"prediction": scored["prediction"]}
    else:
        numbers = {str(label): scored[f"probability_{label}"] for label in classes}
    return numbers, frozenset((scored["missing_views"] or "").split(", ")) - {""}


def _require_equal(answered: Answer, expected: Answer, url: str) -> None:
    numbers, missing = answered
    hint = "`runner audit` compares the features; `runner materialize` renews them"
    if missing != expected[1]:
        raise RunnerError(
            f"missing views at {url}: {_names(missing)}; in the point-in-time join: "
            f"{_names(expected[1])}",
            hint=hint,
        )
    same = numbers.keys() == expected[0].keys() and all(
        _close(number, expected[0][name]) for name, number in numbers.items()
    )
    if not same:
        raise RunnerError(
            f"{url} answers {_numbers(numbers)}; the batch prediction is {_numbers(expected[0])}",
            hint=hint,
        )


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _names(views: frozenset[str]) -> str:
    return ", ".join(sorted(views)) or "none"


def _numbers(numbers: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in numbers.items())
