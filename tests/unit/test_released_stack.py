"""How requests are shared is written into the stack's settings, and nothing else changes there."""

import os
from datetime import UTC, datetime

import pytest
import yaml

from runner.commands.cloud.release import _require_no_errors, release
from runner.commands.cloud.released_stack import ReleasedStack, TrafficShare
from runner.errors import RunnerError

RELEASES = "  shop:releases: {}\n"
HEAD = """config: # all of it
  gcp:project: my-project
  gcp:region: us-central1
  shop:recipes: [recipes/cross_sell.yaml]
  shop:serve: true
"""
TAIL = "  # why\n  shop:alert_email: you@example.com # mine\n"


@pytest.mark.parametrize(
    "releases",
    [
        "  shop:releases: {} # none yet\n",
        "  shop:releases: {cross-sell: {stable: api-00001-abc, share: 0}}\n",
        "  shop:releases:\n    cross-sell:\n      stable: api-00001-abc\n      share: 0\n",
    ],
)
@pytest.mark.parametrize("is_last", [True, False])
def test_however_it_is_written(tmp_path, releases, is_last):
    path = tmp_path / "deploy" / "Pulumi.prod.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + TAIL + releases if is_last else HEAD + releases + TAIL)
    stack = ReleasedStack(tmp_path, "prod")
    assert stack.apis == ["cross-sell"]
    for share in (10, 100):
        stack.share({"cross-sell": TrafficShare(stable="api-00002-def", share=share)})
        written = ReleasedStack(tmp_path, "prod").releases["cross-sell"]
        assert (written.stable, written.share) == ("api-00002-def", share)
    text = path.read_text()
    assert text.startswith(HEAD)
    assert TAIL in text
    stack.share({})
    assert yaml.safe_load(path.read_text())["config"]["shop:releases"] == {}


def test_a_wrong_duration_is_refused_before_anything_runs(tmp_path):
    path = tmp_path / "deploy" / "Pulumi.prod.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + RELEASES)
    with pytest.raises(RunnerError, match=r"--watch '5x' is not a duration"):
        release(ReleasedStack(tmp_path, "prod"), "5x")
    assert path.read_text() == HEAD + RELEASES


def test_errors_of_an_earlier_release_of_the_same_revision_do_not_count(tmp_path, monkeypatch):
    path = tmp_path / "deploy" / "Pulumi.prod.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + RELEASES)
    gcloud = tmp_path / "gcloud"
    gcloud.write_text('#!/bin/sh\necho "$3" > asked\n')
    gcloud.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    _require_no_errors(ReleasedStack(tmp_path, "prod"), {"cross-sell": "api-00002-def"}, since)
    asked = (path.parent / "asked").read_text()
    assert 'httpRequest.status>=500 AND timestamp>="2026-03-01T12:00:00Z"' in asked


def test_a_stack_without_releases_is_refused_with_the_line_to_add(tmp_path):
    path = tmp_path / "deploy" / "Pulumi.prod.yaml"
    path.parent.mkdir()
    path.write_text(HEAD)
    with pytest.raises(RunnerError, match="releases: Field required") as refused:
        ReleasedStack(tmp_path, "prod")
    assert refused.value.hint == "add `<project>:releases: {}`"
