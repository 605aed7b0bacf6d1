"""Feast's store, opened from the profile of a target."""

from pathlib import Path

import pytest
import yaml

from runner.errors import RunnerError
from runner.feature_store.store import open_store
from runner.settings import Settings

TYPE = "runner.features.gone.OfflineStore"


def test_a_type_that_this_version_does_not_have_is_told_of_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # it is exported, and must not stay
    settings = Settings("local", tmp_path, {"MLFLOW_TRACKING_URI": uri})
    path = settings.feature_store_yaml
    path.parent.mkdir()
    path.write_text(
        f"project: p\nprovider: local\nregistry: r.db\noffline_store: {{type: {TYPE}}}\n"
    )
    with pytest.raises(RunnerError) as refused:
        open_store(settings)
    assert str(path) in refused.value.message
    assert "runner.features.gone" in refused.value.message
    assert "runner init" in refused.value.hint


PROJECTS = [Path("profiles"), Path("runner/skeleton/profiles"), Path("examples/movielens/profiles")]


@pytest.mark.parametrize("profiles", PROJECTS, ids=str)
def test_a_bare_feast_in_the_cloud_environment_does_not_talk_to_the_local_target(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feast.repo_config import RepoConfig

    root = Path(__file__).resolve().parents[2]
    content = yaml.safe_load((root / profiles / "feature_store.local.yaml").read_text())
    monkeypatch.setenv("APP_ENV", "cloud")
    with pytest.raises(RunnerError) as refused:
        RepoConfig(**content)
    assert "feast -f profiles/feature_store.cloud.yaml -c feature_repo" in refused.value.message
