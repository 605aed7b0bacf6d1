"""What one training leaves behind: parameters, metrics, tags and artifacts of its MLflow run.

Enough to train again from the same rows and compare: recipe, compiled SQL, dataset snapshot and
digests, versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any

import pyarrow.compute as pc
from sklearn.pipeline import Pipeline

from contract.computed import ComputedColumn
from contract.expressions import columns_in
from runner.bytes_billed import Billed, as_metrics, read_bill
from runner.feature_store.recipe_features import RecipeFeature, RequestInput
from runner.lineage.feature_definitions import FeatureDefinitions
from runner.lineage.lineage_graph import Lineage, LineageColumn
from runner.modelling.bootstrap import Interval
from runner.modelling.contender import Comparison
from runner.modelling.environment import environment, extras
from runner.modelling.evaluation import Evaluation
from runner.modelling.fitted_model import threshold_metric, uncalibrated
from runner.modelling.model_inputs import ModelColumn, model_columns
from runner.modelling.slices import Slice
from runner.modelling.training_data import TrainingData
from runner.modelling.tuning_search import Tuned
from runner.packaging.served_model import ServedModel
from runner.project.manifest import EVENT_TIMESTAMP, Manifest, Spine
from runner.recipes.recipe import Recipe
from runner.records.git_checkout import git_commit
from runner.settings import Settings

SCORED, AS_SERVED = "scored", "as served"
"""A tag of the run; older runs, without it, scored the pipeline itself."""
ACCEPTED = "accepted_changed_features"
BUILD_LEFT_OUT = "dbt_build_left_out"
_LIBRARIES = ("scikit-learn", "numpy", "pandas", "scipy", "skops", "mlflow")


@dataclass(frozen=True)
class PreparedRows:
    """A recipe's training rows, joined and split, and what they are made from.

    Attributes
    ----------
    dataset_sha256
        The digest of `data.table`.
    definitions
        The definitions of the features.
    billed
        What BigQuery billed for each step before the join; empty where there is no BigQuery.
    accepted
        Why features that a served version takes were changed; empty if none was.
    left_out
        Why dbt built nothing; empty if dbt built.
    """

    settings: Settings
    manifest: Manifest
    recipe: Recipe
    feast_project: str
    spine: Spine
    features: list[RecipeFeature]
    request: list[RequestInput]
    computed: tuple[ComputedColumn, ...]
    data: TrainingData
    dataset_sha256: str
    started_at: datetime
    columns: Lineage
    definitions: FeatureDefinitions
    billed: Mapping[str, Billed]
    accepted: str = ""
    left_out: str = ""

    @property
    def inputs(self) -> list[ModelColumn]:
        """The columns of the model, in its order: features, request inputs, computed columns."""
        return model_columns([*self.features, *self.request], self.computed)


@dataclass(frozen=True)
class JudgedModel:
    """A fitted model as it will be served, and how good it is."""

    tuned: Tuned
    pipeline: Pipeline
    served: ServedModel
    evaluation: Evaluation
    comparison: Comparison
    intervals: dict[str, Interval]
    slices: list[Slice]


@dataclass(frozen=True)
class Training:
    """A finished training, before anything of it is recorded."""

    prepared: PreparedRows
    model: JudgedModel

    @property
    def recipe(self) -> Recipe:
        """The recipe that was trained."""
        return self.prepared.recipe

    @cached_property
    def lineage(self) -> dict[str, Any]:
        """Where the model comes from: code, SQL and data."""
        return {
            "git_commit": git_commit(self.prepared.settings),
            "dbt_project": self.prepared.manifest.project_name,
            "dbt_manifest_sha256": self.prepared.manifest.sha256,
            "dataset_sha256": self.prepared.dataset_sha256,
            "spine": f"{self.prepared.spine.schema}.{self.prepared.spine.alias}",
            "features": [feature.reference for feature in self.prepared.features],
            **({"request": list(self.recipe.request)} if self.recipe.request else {}),
            **(
                {"computed": {column.name: column.written for column in self.prepared.computed}}
                if self.prepared.computed
                else {}
            ),
            **self._raw_columns,
        }

    @property
    def _raw_columns(self) -> dict[str, Any]:
        """Model input → the raw columns it is computed from, and what is unresolved."""
        spine = self.prepared.spine.name
        columns = {f.reference: LineageColumn(f.mart.name, f.name) for f in self.prepared.features}
        columns |= {g.reference: LineageColumn(spine, g.column) for g in self.prepared.request}
        columns = {name: self.prepared.columns.known(each) for name, each in columns.items()}
        gaps: dict[str, str] = {}
        for column in columns.values():
            gaps |= self.prepared.columns.gaps(column)
        raw = {name: self.prepared.columns.raw_columns(column) for name, column in columns.items()}
        raw |= self._raw_columns_of_computed(raw)
        return {"raw_columns": raw, **({"raw_columns_unresolved": gaps} if gaps else {})}

    def _raw_columns_of_computed(self, raw: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """Return computed column → the raw columns of all that it is computed from."""
        sources: list[RecipeFeature | RequestInput] = [
            *self.prepared.features,
            *self.prepared.request,
        ]
        found = {one.column: raw[one.reference] for one in sources}
        for column in self.prepared.computed:
            used = columns_in(column.expression)
            found[column.name] = sorted({each for name in used for each in found.get(name, ())})
        return {column.name: found[column.name] for column in self.prepared.computed}

    @property
    def params(self) -> dict[str, Any]:
        """MLflow parameters: the estimator's, under scikit-learn's own names, and the recipe's."""
        estimator = uncalibrated(self.model.pipeline).named_steps["estimator"]
        calibration, threshold = self.recipe.calibration, self.recipe.decision_threshold
        return {
            "estimator": self.recipe.estimator.class_path,
            **{f"estimator.{name}": value for name, value in estimator.get_params().items()},
            "spine": self.prepared.spine.name,
            "label": self.recipe.label,
            "n_features": len(self.prepared.inputs),
            "train_until": self.prepared.data.split.train_until.isoformat(),
            "test_from": self.prepared.data.split.test_from.isoformat(),
            **({"calibration.method": calibration.method} if calibration else {}),
            **(
                {"decision_threshold.maximize": threshold.maximize}
                if threshold and threshold.maximize
                else {}
            ),
            **self.model.comparison.params,
        }

    @property
    def metrics(self) -> dict[str, float]:
        """MLflow metrics: each score on training and test rows, row counts, bytes billed."""
        return {
            **{f"train_{name}": score for name, score in self.model.evaluation.train.items()},
            **{f"test_{name}": score for name, score in self.model.evaluation.test.items()},
            **{f"test_{name}_low": interval.low for name, interval in self.model.intervals.items()},
            **{
                f"test_{name}_high": interval.high
                for name, interval in self.model.intervals.items()
            },
            **(self.model.comparison.metrics or {}),
            **self.model.tuned.metrics,
            **threshold_metric(self.model.pipeline),
            "n_spine_rows": self.prepared.data.table.num_rows,
            "n_train_rows": len(self.prepared.data.train.y),
            **{
                f"n_{name}_rows": len(rows.y)
                for name, rows in self.prepared.data.parts.items()
                if name in {"calibration", "validation"}
            },
            "n_test_rows": len(self.prepared.data.test.y),
            "n_embargoed_rows": self.prepared.data.split.embargoed,
            **as_metrics(
                {
                    **self.prepared.billed,
                    **read_bill("join", self.prepared.data.table.schema.metadata),
                }
            ),
        }

    @property
    def tags(self) -> dict[str, str]:
        """MLflow run tags: what one searches runs by."""
        first, last = pc.min_max(self.prepared.data.table[EVENT_TIMESTAMP]).values()
        return {
            "recipe": self.recipe.name,
            "target": self.prepared.settings.target,
            "git_commit": self.lineage["git_commit"],
            "dbt_manifest_sha256": self.lineage["dbt_manifest_sha256"],
            "dataset_sha256": self.lineage["dataset_sha256"],
            "spine_from": first.as_py().isoformat(),
            "spine_to": last.as_py().isoformat(),
            "python_version": environment()["python"],
            "serving_format": self.model.served.format,
            "serving_proof": self.model.served.proof,
            SCORED: AS_SERVED,
            **({ACCEPTED: self.prepared.accepted} if self.prepared.accepted else {}),
            **({BUILD_LEFT_OUT: self.prepared.left_out} if self.prepared.left_out else {}),
            **self.verdict,
        }

    @property
    def verdict(self) -> dict[str, str]:
        """The gate's verdict as tags of the run and of the model version."""
        compared = self.model.comparison.tags
        if not self.refusals:
            return {"gate": "passed", **compared}
        return {"gate": "refused", "gate_reason": "; ".join(self.refusals), **compared}

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the model does not become the champion, a sentence each; empty if it does."""
        champion, days = self.model.comparison, self.recipe.min_shadow_days
        beaten = [champion.refusal] if champion.refusal else []
        refusals = (*self.model.evaluation.refusals, *beaten)
        if days and not refusals and champion.is_served:
            return (f"it must answer as a shadow on {days} days first (min_shadow_days)",)
        return refusals

    @property
    def pip_requirements(self) -> list[str]:
        """What loading the logged pipeline needs; spelled out, which spares MLflow the search."""
        versions = {name: version(name) for name in _LIBRARIES}
        versions |= extras(self.recipe.estimator.class_path)
        return [f"{name}=={number}" for name, number in versions.items()]
