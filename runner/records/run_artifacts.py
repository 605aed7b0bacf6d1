"""The files of an MLflow run: recipe, rows, SQL, plots, slices, report and the serving bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contract.bundle_reader import read_bundle
from contract.explainer import load_explainer
from contract.model_registry import BUNDLE_FOLDER
from contract.scoring import load_model
from runner.modelling.bootstrap import answering
from runner.modelling.environment import environment
from runner.modelling.plots import draw_plots
from runner.modelling.slices import markdown
from runner.packaging.bundle_writer import write_bundle
from runner.packaging.explanation import served_explanation
from runner.packaging.served_model import class_list
from runner.records.artifact_names import (
    ENVIRONMENT,
    RECIPE,
    ROWS,
    SLICES,
    SQL_DIGESTS,
    TUNING,
)
from runner.records.run_record import Training
from runner.records.run_report import REPORT, run_report


def write_artifacts(training: Training, run_id: str, folder: Path) -> str:
    """Write every artifact of the run into `folder`; return the serving bundle's sha256."""
    # Not a copy of the file: that may have been edited while the training ran.
    (folder / RECIPE).write_text(training.recipe.source.text, encoding="utf-8")
    _write_json(folder / ENVIRONMENT, environment())
    _write_sql(training, folder / "sql")
    if training.model.tuned.trials:
        _write_json(folder / TUNING, training.model.tuned.summary)
    (folder / "dataset").mkdir()
    pq.write_table(training.prepared.data.table, folder / ROWS, compression="zstd")
    plots = folder / "plots"
    plots.mkdir()
    model = training.model
    draw_plots(
        plots,
        model.pipeline,
        *training.prepared.data.test,
        scorer=training.recipe.scoring[0],
        intervals=model.intervals,
        served=answering(model.served.answer, class_list(model.pipeline)),
    )
    if training.model.slices:
        _write_json(folder / SLICES, {"slices": [each.record for each in training.model.slices]})
        text = markdown(training.model.slices, training.recipe.scoring)
        (folder / SLICES).with_suffix(".md").write_text(text, encoding="utf-8")
    report = run_report(training, run_id, plots)
    (folder / REPORT).write_text(report, encoding="utf-8")
    return _write_bundle(training, run_id, folder / BUNDLE_FOLDER)


def _write_bundle(training: Training, run_id: str, folder: Path) -> str:
    """Write the bundle and load it as serving will: what cannot be served is not registered."""
    folder.mkdir()
    data, pipeline = training.prepared.data, training.model.pipeline
    table, served = data.table, training.model.served
    digest = write_bundle(
        folder,
        recipe=training.recipe,
        spine=training.prepared.spine,
        features=training.prepared.features,
        request=training.prepared.request,
        computed=training.prepared.computed,
        classes=class_list(pipeline),
        model=served,
        explanation=served_explanation(pipeline, served, data.train.X, data.test.X),
        definitions=training.prepared.definitions,
        examples={
            name: _example(table[name])
            for name in (*training.prepared.spine.join_keys, *training.recipe.request)
        },
        run={
            "feast_project": training.prepared.feast_project,
            "run_id": run_id,
            "created_at": training.prepared.started_at.isoformat(),
            "metrics": training.model.evaluation.test,
            "lineage": training.lineage,
        },
    )
    bundle = read_bundle(folder, digest)
    load_explainer(bundle, load_model(bundle))
    return digest


def _write_sql(training: Training, folder: Path) -> None:
    folder.mkdir()
    marts = {feature.mart.name: feature.mart for feature in training.prepared.features}
    for relation in (training.prepared.spine, *marts.values()):
        (folder / f"{relation.name}.sql").write_text(relation.compiled_code or "")
    _write_json(folder.parent / SQL_DIGESTS, training.prepared.manifest.digests)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")


def _example(column: pa.ChunkedArray) -> Any:
    """Return the last value in JSON's types; of a column with none, null."""
    for scalar in reversed(column.drop_null()):
        value = scalar.as_py()
        if isinstance(value, Decimal):
            value = float(value)
        if not isinstance(value, float) or math.isfinite(value):
            return value.isoformat() if isinstance(value, datetime) else value
    return None
