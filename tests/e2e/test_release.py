"""`runner release` and `runner smoke-test`, with a real API.

`pulumi` and `gcloud` are other people's programs that need an account: scripts stand in for them.
They record how they were called, and the smoke test that `gcloud` is asked to run is the real one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests import warm
from tests.e2e.conftest import REPOSITORY, Project, Served, served

pytestmark = pytest.mark.servers

RECIPE = "recipes/rf.yaml"
# A revision is new whenever the file `code` changed since the last `up`.
PULUMI = """#!{python}
import json, pathlib, sys, yaml
here = pathlib.Path({folder!r})
state = json.loads((here / "state.json").read_text())
if sys.argv[1:3] == ["stack", "output"]:
    name = "api-rf-%05d-abc" % state["revision"]
    print(json.dumps({{"api_key": "[secret]", "revision_rf": "projects/p/revisions/" + name}}))
    sys.exit()
assert sys.argv[1:] == ["up", "--yes", "--skip-preview", "--stack", "prod"], sys.argv
releases = yaml.safe_load(pathlib.Path("Pulumi.prod.yaml").read_text())["config"]["shop:releases"]
code = (here / "code").read_text()
state["revision"] += code != state["code"]
state["code"] = code
(here / "state.json").write_text(json.dumps(state))
with (here / "ups").open("a") as ups:
    print(json.dumps(releases), file=ups)
"""
GCLOUD = """#!/bin/sh
case "$*" in
  "run jobs execute smoke-rf --wait --region=us-central1 --project=my-project")
    echo smoke >> {folder}/ups
    cd {root} && exec {runner} smoke-test {recipe} --url "$(cat {folder}/url)" ;;
  "logging read "*revision_name=*"timestamp>="*" --limit=1 --format=value(httpRequest.status) "*)
    cat {folder}/errors ;;
  *) echo "no such command: $*" >&2; exit 2 ;;
esac
"""


@dataclass(frozen=True)
class Cloud:
    """A deployed project, as the stand-ins have it."""

    folder: Path
    project: Project

    def commit(self, code: str) -> None:
        """Change what the next `pulumi up` deploys."""
        (self.folder / "code").write_text(code)

    def shares(self) -> list[object]:
        """Return what was done since the last call: the shares of each `up`, and smoke tests."""
        path = self.folder / "ups"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        done = [line if line == "smoke" else json.loads(line) for line in lines]
        return [one if one == "smoke" else _short(one) for one in done]

    @property
    def settings(self) -> str:
        """The text of the stack's settings."""
        return (self.project.root / "deploy" / "Pulumi.prod.yaml").read_text()


def _short(releases: dict[str, dict[str, object]]) -> object:
    return tuple(releases["rf"].values()) if releases else None


@pytest.fixture(name="cloud")
def _cloud(tmp_path: Path, shop: Project, serving: Served) -> Iterator[Cloud]:
    """The shop with `serve: true`, whose first revision gets every request."""
    root, folder = tmp_path / "project", tmp_path / "cloud"
    (root / "deploy").mkdir(parents=True)
    folder.mkdir()
    for name in ("dbt_project.yml", "profiles"):
        (root / name).symlink_to(shop.root / name)
    text = (REPOSITORY / "deploy" / "Pulumi.prod.yaml").read_text()
    text = text.replace("shop:serve: false", "shop:serve: true")
    (root / "deploy" / "Pulumi.prod.yaml").write_text(text)
    (folder / "state.json").write_text('{"revision": 1, "code": "a"}')
    for name, content in (("code", "a"), ("errors", ""), ("url", serving.address)):
        (folder / name).write_text(content)
    gcloud = GCLOUD.format(
        folder=folder, root=shop.root, runner=warm.program("runner"), recipe=RECIPE
    )
    for program, script in (
        ("pulumi", PULUMI.format(python=sys.executable, folder=str(folder))),
        ("gcloud", gcloud),
    ):
        (folder / program).write_text(script)
        (folder / program).chmod(0o755)
    env = shop.env | {"PATH": f"{folder}:{shop.env['PATH']}"}
    yield Cloud(folder, Project(root, env))
    shutil.rmtree(root)


def test_a_release_goes_by_smoke_tests_from_none_to_all_requests(cloud: Cloud) -> None:
    before = cloud.settings
    cloud.commit("b")
    shown = cloud.project.runner("release", "--watch", "0s")
    assert shown == "rf: api-rf-00002-abc answers every request (before: api-rf-00001-abc)\n"
    stable = "api-rf-00001-abc"
    assert cloud.shares() == [(stable, 0), "smoke", (stable, 10), "smoke", (stable, 100)]
    changed = cloud.settings
    assert changed.splitlines()[:-1] == before.splitlines()[:-1]  # comments are still there
    assert yaml.safe_load(changed)["config"]["shop:releases"]["rf"]["share"] == 100
    shown = cloud.project.runner("release", "--rollback")
    assert shown == "rf: api-rf-00001-abc answers every request (before: api-rf-00002-abc)\n"
    assert cloud.shares() == [(stable, 0)]
    cloud.commit("c")  # the next one starts from what answers
    cloud.project.runner("release", "--watch", "0s")
    assert cloud.shares()[-1] == (stable, 100)
    cloud.commit("d")
    cloud.project.runner("release", "--watch", "0s")
    assert cloud.shares()[-1] == ("api-rf-00003-abc", 100)


def test_without_a_change_there_is_nothing_to_release(cloud: Cloud) -> None:
    before = cloud.settings
    assert "nothing to release" in cloud.project.runner("release")
    assert cloud.shares()[-1] is None
    assert cloud.settings == before


def test_a_revision_that_fails_its_smoke_test_gets_no_request(
    cloud: Cloud, empty_store: Served
) -> None:
    (cloud.folder / "url").write_text(empty_store.address)
    cloud.commit("b")
    told = cloud.project.refused("release", "--watch", "0s")
    assert "smoke-rf" in told
    assert "every request goes to api-rf-00001-abc again" in told
    assert [one for one in cloud.shares() if one != "smoke"] == [("api-rf-00001-abc", 0)] * 2


def test_a_revision_that_answers_with_an_error_loses_its_requests(cloud: Cloud) -> None:
    (cloud.folder / "errors").write_text("500\n")
    cloud.commit("b")
    told = cloud.project.refused("release", "--watch", "0s")
    assert "api-rf-00002-abc answered a request with 500; every request goes to" in told
    shares = [one for one in cloud.shares() if one != "smoke"]
    assert shares == [("api-rf-00001-abc", share) for share in (0, 10, 0)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("serve: true", "serve: false", "serve is false, so there is no API to release"),
        ("[recipes/rf.yaml]", "[recipes/hgb.yaml]", "stack prod has no API hgb yet"),
        ("releases: {}", "releases: {rf: {share: 1}}", "releases.rf.stable: Field required"),
    ],
)
def test_what_cannot_be_released_is_refused_before_pulumi_changes_anything(
    cloud: Cloud, old: str, new: str, expected: str
) -> None:
    path = cloud.project.root / "deploy" / "Pulumi.prod.yaml"
    path.write_text(cloud.settings.replace(old, new))
    assert expected in cloud.project.refused("release")
    assert cloud.shares() == []


def test_before_a_release_there_is_nothing_to_return_to(cloud: Cloud) -> None:
    assert "no revision to return to" in cloud.project.refused("release", "--rollback")


# The smoke test by itself


@pytest.fixture(name="empty_store", scope="module")
def _empty_store(shop: Project) -> Iterator[Served]:
    """The API of the shop on an empty online store."""
    url = shop.env["REDIS_URL"].rpartition("/")[0] + "/9"
    with served(replace(shop, env=shop.env | {"REDIS_URL": url}), RECIPE) as api:
        yield api


def test_an_api_that_answers_as_the_batch_does_passes(shop: Project, serving: Served) -> None:
    shown = shop.runner("smoke-test", RECIPE, "--url", serving.address)
    assert (
        "category_purchase_rf version 1 is ready and answers as `runner predict` does: 0: 0."
        in shown
    )


def test_an_api_that_finds_other_features_fails(shop: Project, empty_store: Served) -> None:
    told = shop.refused("smoke-test", RECIPE, "--url", empty_store.address)
    assert (
        ": user_activity, user_category_affinity, user_demographics; in the point-in-time" in told
    )


def test_an_api_that_does_not_answer_or_wants_a_key_fails(shop: Project) -> None:
    told = shop.refused("smoke-test", RECIPE, "--url", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9/ready does not answer as a prediction API" in told
    keyed = replace(
        shop, env=shop.env | {"SERVING_API_KEYS": "a-key-of-32-characters-or-even-more"}
    )
    with served(keyed, RECIPE) as api:
        told = shop.refused("smoke-test", RECIPE, "--url", api.address)
        assert "/predict answers 401" in told
        assert "SERVING_API_KEYS" in told
        assert "is ready" in keyed.runner("smoke-test", RECIPE, "--url", api.address)
