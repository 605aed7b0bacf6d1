"""The SQL that training runs, from Feast's definitions, with none applied.

Feast's registry is neither read nor written: it may be older than dbt's models, and planning must
leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from feast.feature_view import FeatureView
from feast.infra.registry.registry import Registry
from feast.repo_config import RegistryConfig, load_repo_config

from runner.feature_store.feast_objects import feast_objects
from runner.feature_store.recipe_features import RecipeFeature, spine_query
from runner.feature_store.store import join_job, spine_job
from runner.project.manifest import Manifest, Spine
from runner.recipes.recipe import Recipe
from runner.recipes.spine_columns import spine_columns
from runner.settings import Settings


class FeastQueries:
    """See `PlannedQueries`.

    Attributes
    ----------
    config
        Feast's configuration of the target.
    """

    def __init__(self, settings: Settings, manifest: Manifest) -> None:
        """Read the configuration; exports the connection variables first."""
        settings.export()
        self._manifest = manifest
        self.config = load_repo_config(settings.feature_repo, settings.feature_store_yaml)

    def join_query(self, recipe: Recipe, spine: Spine, features: Sequence[RecipeFeature]) -> str:
        """See `PlannedQueries`."""
        config = self.config
        rows = spine_query(spine, spine_columns(recipe, spine))
        joined = [feature.joined for feature in features]
        with TemporaryDirectory() as folder:
            path = str(Path(folder, "registry"))
            empty = Registry(config.project, RegistryConfig(path=path), None)
            job = join_job(config, _views(self._manifest), rows, joined, empty)
        return str(job.to_sql())

    def split_query(self, spine: Spine, label: str) -> str:
        """See `PlannedQueries`."""
        return str(spine_job(self.config, spine, label).to_sql())


def _views(manifest: Manifest) -> dict[str, FeatureView]:
    objects = feast_objects(manifest, [])
    return {view.name: view for view in objects if isinstance(view, FeatureView)}
