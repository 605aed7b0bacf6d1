"""The present champion scored on a new model's test rows, and whether the new one is better.

Both are compared as they are or would be served, from the serving bundle: a model that is trained
again on the same rows differs by exactly 0. Nothing is unpickled: the champion's files are held
against the digests in the registry first, and read as ONNX or as a closed list of types.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore
from mlflow import MlflowClient

from contract.bundle import DEFINITIONS, Bundle, BundleFeature
from contract.predictions import Predictions
from contract.serving_errors import ServingError
from runner.errors import RunnerError
from runner.feature_store.nullable_types import NULLABLE
from runner.feature_store.recipe_features import bundle_features
from runner.feature_store.store import point_in_time_table
from runner.lineage.feature_definitions import Definitions
from runner.lineage.kept_definitions import current_definitions
from runner.modelling.bootstrap import (
    Interval,
    RowNumbers,
    paired_interval,
    predicted,
)
from runner.modelling.contender import NO_CHAMPION, Comparison, Contender, entity_numbers
from runner.modelling.training_data import TrainingData
from runner.packaging.served_version import load_version
from runner.project import dbt
from runner.project.manifest import EVENT_TIMESTAMP, Manifest, Spine
from runner.records.registry import CHAMPION, run_of, version_with
from runner.records.run_facts import RETIRED

if TYPE_CHECKING:
    from runner.settings import Settings

_NUMBERS = {"int64", "int32", "float64", "float32", "bool"}  # contract.tensors: each is a float32


def compare_with_champion(
    settings: Settings,
    client: MlflowClient,
    store: FeatureStore,
    manifest: Manifest,
    contender: Contender,
) -> Comparison:
    """Return whether the contender beats the present champion on the same test rows.

    Rows up to the champion's own `test_from` are left out: it may have seen them in training.
    A champion that cannot be scored (a feature is gone or another one now, dbt fails for its marts,
    its files changed) is not beaten either; the refusal says why, and `runner promote` is left to
    decide. One that was retired, because its features were changed on purpose, is not compared.
    """
    champion = version_with(client, contender.name, CHAMPION)
    if champion is None:
        return NO_CHAMPION
    if RETIRED in champion.tags:
        return Comparison(str(champion.version), is_retired=True)
    try:
        model, _ = load_version(settings, f"models:/{contender.name}/{champion.version}")
        test_from = run_of(client, champion).data.params["test_from"]
        table, unseen = _unseen(contender.data, datetime.fromisoformat(test_from))
        missing = _missing(manifest, table, model.bundle)
        _require_same(settings, model.bundle)
        if missing:  # their marts are not among those that were built for the contender
            views = {feature.view for feature in missing}
            selected = sorted(manifest.marts[view].selector or view for view in views)
            dbt.build(settings, selected, lambda _: None)
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
    for given in bundle.request:
        if given.name not in table.column_names:
            raise _NotComparableError(f"the spine's {given.name} is not among the rows")
    return [feature for feature in bundle.features if feature.name not in table.column_names]


def _require_same(settings: Settings, bundle: Bundle) -> None:
    """Raise _NotComparableError if a feature is computed by other SQL than the champion's was."""
    if DEFINITIONS not in bundle.files:
        return
    known = Definitions.load(json.loads(bundle.read_file(DEFINITIONS)))
    if known is None:
        return
    current = current_definitions(settings, known.views.keys(), lambda _: None)
    if not known.is_comparable(current):  # it was trained in the other warehouse
        return
    for feature in bundle.features:
        if feature.view not in known.views:
            continue
        if lines := known.changes(current, feature.view, feature.feature):
            name = f"{feature.view}:{feature.feature}"
            raise _NotComparableError(f"{name} is computed in another way now: {'; '.join(lines)}")


def _columns(
    store: FeatureStore,
    spine: Spine,
    table: pa.Table,
    bundle: Bundle,
    missing: list[BundleFeature],
) -> dict[str, pa.ChunkedArray]:
    """Return the rows' times and the champion's inputs; features that are missing are joined."""
    joined_names = {feature.name for feature in missing}
    names = (*bundle.row_dtypes, EVENT_TIMESTAMP)
    columns = {name: table[name] for name in names if name not in joined_names}
    if missing:
        keys = table.select([*spine.join_keys, EVENT_TIMESTAMP])
        entity_df: pd.DataFrame = keys.to_pandas(types_mapper=NULLABLE.get)
        wanted = [one for one in bundle_features(bundle) if one.column in joined_names]
        joined = point_in_time_table(store, entity_df, wanted)
        columns |= {feature.name: joined[feature.name] for feature in missing}
    return columns


def _classes(bundle: Bundle) -> list[int | str] | None:
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
    if difference.low > 0:
        return Comparison(version, "", metrics, "better")
    if difference.high < 0:
        return Comparison(version, f"{said}: worse by more than noise", metrics, "worse")
    refusal = f"{said}: not better by more than noise"
    return Comparison(version, refusal, metrics, "no clear difference")


def _signed(difference: Interval) -> str:
    low, high = f"{difference.low:+.4f}", f"{difference.high:+.4f}"
    return f"{difference.value:+.4f} (95% CI {low} to {high})"
