"""The SQL that training and materializing would run, from Feast's definitions, with none applied.

Feast's registry is neither read nor written: it may be older than dbt's models, and planning must
leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from feast.feature_view import FeatureView
from feast.infra.offline_stores.offline_utils import get_offline_store_from_config
from feast.infra.registry.registry import Registry
from feast.repo_config import RegistryConfig, RepoConfig, load_repo_config

from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.store import RecipeFeature, spine_job, spine_query
from runner.project.manifest import EVENT_TIMESTAMP, FeatureMart, Manifest, Spine
from runner.settings import Settings


def load_config(settings: Settings) -> RepoConfig:
    """Return Feast's configuration of the target; exports the connection variables first."""
    settings.export()
    return load_repo_config(settings.feature_repo, settings.feature_store_yaml)


def join_query(
    config: RepoConfig,
    manifest: Manifest,
    spine: Spine,
    features: Sequence[RecipeFeature],
    label: str,
) -> str:
    """Return the SQL of the point-in-time join that training runs; its tables must exist."""
    names = {feature.mart.name for feature in features}
    views = [view for name, view in _views(manifest).items() if name in names]
    with TemporaryDirectory() as folder:
        empty = Registry(config.project, RegistryConfig(path=str(Path(folder, "registry"))), None)
        job: Any = get_offline_store_from_config(config.offline_store).get_historical_features(
            config,
            views,
            [feature.reference for feature in features],
            spine_query(spine, [*spine.join_keys, EVENT_TIMESTAMP, label]),
            empty,
            config.project,
            full_feature_names=True,
        )
    return str(job.to_sql())


def split_query(config: RepoConfig, spine: Spine, label: str) -> str:
    """Return the SQL that reads what training splits by time; the spine's table must exist."""
    job: Any = spine_job(config, spine, label)
    return str(job.to_sql())


def newest_query(settings: Settings, mart: FeatureMart) -> str:
    """Return the SQL that a full materialization of `mart` runs; its table must exist."""
    now = datetime.now(UTC)
    # Only one of them is imported: each takes its client library along.
    if settings.target == "cloud":
        from runner.warehouse.bigquery.mart import planned_query

        return planned_query(mart, now)
    from runner.warehouse.postgres.mart import open_postgres_mart

    with open_postgres_mart(settings.postgres, mart) as snapshot:
        return snapshot.newest_query(now, None)


def _views(manifest: Manifest) -> dict[str, FeatureView]:
    objects = feast_objects(manifest, [])
    return {view.name: view for view in objects if isinstance(view, FeatureView)}
