"""The present champion scored on a new model's test rows, and whether the new one is better.

Both are compared as they are or would be served, from the serving bundle: a model that is trained
again on the same rows differs by exactly 0. Nothing is unpickled: the champion's files are held
against the digests in the registry first, and read as ONNX or as a closed list of types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from runner.errors import RunnerError
from runner.features.store import NULLABLE
from runner.modelling.bootstrap import (
    RESAMPLES,
    SEED,
    Interval,
    RowNumbers,
    paired_interval,
    predicted,
    score_interval,
)
from runner.modelling.served_version import load_version
from runner.modelling.training_data import TrainingData
from runner.project import dbt
from runner.project.manifest import EVENT_TIMESTAMP, Manifest, Spine
from serving.bundle import Bundle
from serving.bundle import Feature as BundleFeature
from serving.errors import ServingError
from serving.scoring import Predictions

if TYPE_CHECKING:
    from runner.settings import Settings

CHAMPION = "champion"
_NUMBERS = {"int64", "int32", "float64", "float32", "bool"}  # serving.scoring: each is a float32


@dataclass(frozen=True)
class Comparison:
    """What the comparison with the champion says.

    Attributes
    ----------
    version
        The champion that was compared; "" where there is none.
    refusal
        Why the new model does not become the champion; "" if it does.
    metrics
        The champion's score and the difference with its interval; empty if there is none.
    """

    version: str
    refusal: str = ""
    metrics: Mapping[str, float] | None = None

    @property
    def params(self) -> dict[str, str]:
        """What makes the comparison reproducible."""
        if not self.version:
            return {}
        return {
            "champion_version": self.version,
            "bootstrap_resamples": str(RESAMPLES),
            "bootstrap_seed": str(SEED),
        }

    @property
    def summary(self) -> str:
        """The outcome in a few words."""
        if not self.version:
            return "there is none yet"
        return f"version {self.version}: {'not beaten' if self.refusal else 'beaten'}"


NO_CHAMPION = Comparison("")


@dataclass(frozen=True)
class Contender:
    """A new model, not yet registered, and where its rows come from.

    Attributes
    ----------
    predictions
        Of the test rows, as the new model would answer when served.
    classes
        In the order of its probabilities; None for a regression.
    """

    name: str
    scorer: str
    spine: Spine
    data: TrainingData
    predictions: Predictions
    classes: list[object] | None


def version_with(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the model's version with the alias; None if there is none, or no such model."""
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as err:
        if err.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if version is None else client.get_model_version(name, str(version))


def compare_with_champion(
    settings: Settings,
    client: MlflowClient,
    store: FeatureStore,
    manifest: Manifest,
    contender: Contender,
) -> Comparison:
    """Return whether the contender beats the present champion on the same test rows.

    Rows up to the champion's own `test_from` are left out: it may have seen them in training.
    A champion that cannot be scored (a feature is gone or of another type, dbt fails for its marts,
    its files changed) is not beaten either; the refusal says why, and `runner promote` is left to
    decide.
    """
    champion = version_with(client, contender.name, CHAMPION)
    if champion is None:
        return NO_CHAMPION
    try:
        model, _ = load_version(settings, f"models:/{contender.name}/{champion.version}")
        test_from = client.get_run(champion.run_id).data.params["test_from"]
        table, unseen = _unseen(contender.data, datetime.fromisoformat(test_from))
        missing = _missing(manifest, table, model.bundle)
        if missing:  # their marts are not among those that were built for the contender
            dbt.build(settings, sorted({feature.view for feature in missing}), lambda _: None)
        columns = _columns(store, contender.spine, table, model.bundle, missing)
        old = predicted(model.score(columns), _classes(model.bundle))
        return _judge(contender, str(champion.version), old, table, unseen)
    except (RunnerError, ServingError, _NotComparableError) as err:
        refusal = f"the champion (version {champion.version}) cannot be compared: {err}"
        return Comparison(str(champion.version), refusal)


class _NotComparableError(Exception):
    """There is no fair comparison; the message says why."""


def _unseen(data: TrainingData, test_from: datetime) -> tuple[pa.Table, RowNumbers]:
    """Return the test rows that neither model can have seen, and their numbers among all test rows.

    Raises
    ------
    _NotComparableError
        If there is none.
    """
    test = data.table.filter(pa.array(data.split.test))
    rows = np.flatnonzero(pc.greater(test[EVENT_TIMESTAMP], pa.scalar(test_from)).to_numpy())
    if not len(rows):
        raise _NotComparableError(f"no test row is later than its own test_from, {test_from}")
    return test.take(pa.array(rows)), rows


def _missing(manifest: Manifest, table: pa.Table, bundle: Bundle) -> list[BundleFeature]:
    """Return the champion's features that the new model does not have.

    Raises
    ------
    _NotComparableError
        If dbt does not have one of the champion's features any more, or as text where it was a
        number, or the like. A number of another type is the same model input.
    """
    for feature in bundle.features:
        mart, name = manifest.marts.get(feature.view), f"{feature.view}:{feature.feature}"
        dtypes = {column.name: column.dtype for column in mart.features} if mart else {}
        if feature.feature not in dtypes:
            raise _NotComparableError(f"dbt has no {name} any more")
        dtype = dtypes[feature.feature]
        if dtype != feature.dtype and not {dtype, feature.dtype} <= _NUMBERS:
            raise _NotComparableError(f"{name} was {feature.dtype} and is {dtype} now")
    return [feature for feature in bundle.features if feature.name not in table.column_names]


def _columns(
    store: FeatureStore,
    spine: Spine,
    table: pa.Table,
    bundle: Bundle,
    missing: list[BundleFeature],
) -> dict[str, pa.ChunkedArray]:
    """Return the champion's features of the rows; those that are missing are joined."""
    columns = {f.name: table[f.name] for f in bundle.features if f not in missing}
    if missing:
        keys = table.select([*spine.join_keys, EVENT_TIMESTAMP])
        entity_df: pd.DataFrame = keys.to_pandas(types_mapper=NULLABLE.get)
        joined = store.get_historical_features(
            entity_df=entity_df,
            features=[f"{feature.view}:{feature.feature}" for feature in missing],
            full_feature_names=True,
        ).to_arrow()
        columns |= {feature.name: joined[feature.name] for feature in missing}
    return columns


def _classes(bundle: Bundle) -> list[object] | None:
    return None if bundle.label.classes is None else list(bundle.label.classes)


def _judge(
    contender: Contender, version: str, old: object, table: pa.Table, rows: RowNumbers
) -> Comparison:
    everything = contender.predictions
    shown = Predictions(
        everything.labels[rows],
        None if everything.probabilities is None else everything.probabilities[rows],
    )
    new = predicted(shown, contender.classes)
    y, groups = contender.data.test.y[rows], entity_numbers(table, contender.spine)
    try:
        difference = paired_interval(contender.scorer, new, old, y, groups)
    except ValueError as err:  # the scorer's: other classes, or one class in the common rows
        raise _NotComparableError(str(err)) from err
    said = (
        f"{contender.scorer} differs by {_signed(difference)} from the champion's "
        f"(version {version}) on the same {len(y):,} test rows"
    )
    metrics = {
        "champion_difference": difference.value,
        "champion_difference_low": difference.low,
        "champion_difference_high": difference.high,
        "n_champion_rows": float(len(y)),
    }
    refusal = "" if difference.low > 0 else f"{said}: not better by more than noise"
    return Comparison(version, refusal, metrics)


def score_intervals(contender: Contender, scoring: Sequence[str]) -> dict[str, Interval]:
    """Return each score on the test rows, as served, with its 95 % interval."""
    data, model = contender.data, predicted(contender.predictions, contender.classes)
    groups = entity_numbers(data.table.filter(pa.array(data.split.test)), contender.spine)
    return {name: score_interval(name, model, data.test.y, groups) for name in scoring}


def entity_numbers(table: pa.Table, spine: Spine) -> RowNumbers:
    """Return a number from 0 per row, shape (n_rows,), equal for rows of one entity."""
    frame: pd.DataFrame = table.select(list(spine.join_keys)).to_pandas(types_mapper=NULLABLE.get)
    numbers = frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup()
    return np.asarray(numbers, dtype=np.intp)


def _signed(difference: Interval) -> str:
    low, high = f"{difference.low:+.4f}", f"{difference.high:+.4f}"
    return f"{difference.value:+.4f} (95 % between {low} and {high})"
