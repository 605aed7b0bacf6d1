"""`runner doctor` on the cloud target: all green, and each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import google.auth
import pytest
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery

from runner.commands.project.doctor import Finding, diagnose
from runner.project import dbt
from runner.settings import read_settings
from tests.conftest import free_port
from tests.emulators.bigquery import Emulator
from tests.emulators.certificates import make_certificate
from tests.emulators.gcs import BUCKET, CloudStorage, cloud_storage
from tests.emulators.redis_servers import PASSWORD, RedisServers, one_redis
from tests.serving_bundles import register, write_bundle_of
from tests.small_project import write_project

pytestmark = [pytest.mark.cloud, pytest.mark.servers, pytest.mark.timeout(900)]

Diagnose = Callable[..., dict[str, Finding]]
# One dataset for each, of these tests' own: other modules have those without a prefix.
PREFIX = "doctor_"


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudStorage]:
    with cloud_storage(tmp_path_factory.mktemp("gcs")) as started:
        yield started


@pytest.fixture(scope="module")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    folder = tmp_path_factory.mktemp("redis")
    with one_redis(folder / "data", make_certificate(folder / "certificates")) as started:
        yield started


@pytest.fixture
def look(
    client: bigquery.Client,
    emulator: Emulator,
    gcs: CloudStorage,
    tls_redis: RedisServers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Diagnose:
    """Return the findings by check, with these variables."""
    root = write_project(tmp_path / "small")
    for name in ("raw_events", "feast_registry"):
        client.create_dataset(name, exists_ok=True)
    for name in ("staging", "feature_mart", "spine_data"):
        client.create_dataset(f"{PREFIX}{name}", exists_ok=True)
    env = {
        **gcs.environment,
        **emulator.environment,
        "DBT_SCHEMA_PREFIX": PREFIX,
        "BIGQUERY_LOCATION": "US",
        "FEAST_REGISTRY": f"gs://{BUCKET}/feast/doctor.db",
        "REDIS_URL": tls_redis.url,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }

    def start(**variables: str) -> dict[str, Finding]:
        for name, value in {**env, **variables}.items():
            monkeypatch.setenv(name, value)
        return {found.check: found for found in diagnose(read_settings("cloud", root))}

    return start


def problems(found: dict[str, Finding]) -> dict[str, tuple[str, str]]:
    return {
        name: (finding.message, finding.hint)
        for name, finding in found.items()
        if not finding.is_ok and name != "serving port"
    }


def test_a_cloud_that_is_well_has_no_problems(look: Diagnose) -> None:
    found = look()
    assert problems(found) == {}
    assert found["Storage Read API"].message == "1 row read"
    assert found["dataset feature_mart"].message == "test-project.doctor_feature_mart in US"
    assert found["Redis encryption"].message == "a password, and TLS"
    told = found["Feast's registry"].message
    assert told.startswith("gs://ml-artifacts/feast/doctor.db: not there")
    assert told.endswith("a file has no lock: train one model at a time")


def test_variables_that_are_not_set_are_named_at_once(look: Diagnose) -> None:
    found = problems(look(FEAST_REGISTRY="", GOOGLE_CLOUD_PROJECT=""))
    assert found["variables"][0] == "GOOGLE_CLOUD_PROJECT, FEAST_REGISTRY not set"
    assert found["BigQuery"][0] == "nowhere to look: GOOGLE_CLOUD_PROJECT not set"
    assert "Redis" not in found


def test_missing_credentials_are_told_with_the_command(
    look: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise DefaultCredentialsError("none found")

    monkeypatch.setattr(google.auth, "default", none)
    found = problems(look())
    assert found["credentials"][0] == "no application default credentials: none found"
    assert "gcloud auth application-default login" in found["credentials"][1]
    for check in ("BigQuery", "Feast's registry"):
        assert found[check] == ("not checked: it needs credentials", "")
    assert found["dataset raw_events"] == ("not checked: it needs BigQuery", "")
    assert "Redis" not in found


def test_a_bigquery_that_does_not_answer_is_told_once(look: Diagnose) -> None:
    found = problems(look(BIGQUERY_EMULATOR_HOST=f"http://127.0.0.1:{free_port()}"))
    datasets = {
        f"dataset {name}"
        for name in ("raw_events", "staging", "feature_mart", "spine_data", "feast_registry")
    }
    assert "check the network" in found.pop("BigQuery")[1]
    assert found == {
        **dict.fromkeys({"BigQuery jobs", *datasets}, ("not checked: it needs BigQuery", "")),
        **dict.fromkeys(
            {"Storage Read API", "champions"}, ("not checked: it needs BigQuery jobs", "")
        ),
    }


def test_a_missing_dataset_is_told_with_what_makes_it(look: Diagnose) -> None:
    found = problems(look(DBT_SCHEMA_PREFIX="nobody_"))
    make = "`bq --location=US mk --dataset test-project:nobody_spine_data`"
    assert found["dataset spine_data"] == (
        "there is no dataset test-project.nobody_spine_data",
        f"`dbt build --target cloud` makes it, or {make}",
    )
    assert set(found) == {f"dataset {name}" for name in ("staging", "feature_mart", "spine_data")}


def test_a_dataset_elsewhere_is_told(look: Diagnose) -> None:
    found = problems(look(BIGQUERY_LOCATION="EU"))
    assert found["dataset raw_events"] == (
        "dataset test-project.raw_events is in US, but BIGQUERY_LOCATION=EU",
        "set BIGQUERY_LOCATION=US, or recreate the dataset in EU",
    )


def test_a_champion_whose_mart_is_not_in_bigquery_is_a_problem(
    look: Diagnose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow writes artifacts below it
    write_bundle_of(tmp_path / "bundle", "reading", "amount")
    register(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "bundle", "small")
    assert look()["champions"].message == "intact: small version 1"  # dbt has not compiled
    dbt.run(read_settings("cloud", tmp_path / "small"), ["parse"], lambda _: None)
    told, hint = problems(look())["champions"]
    gone = "no table doctor_feature_mart.reading in test-project"
    assert told == f"small version 1: feature mart reading: {gone}"
    assert hint == "run `dbt build --select +reading`"


def test_a_missing_bucket_is_told(look: Diagnose) -> None:
    found = problems(look(FEAST_REGISTRY="gs://no-such-bucket/registry.db"))
    assert set(found) == {"Feast's registry"}
    assert "there is no bucket no-such-bucket" in found["Feast's registry"][0]


def test_a_redis_without_encryption_is_a_problem(
    look: Diagnose, redis_url: str, tls_redis: RedisServers
) -> None:
    found = problems(look(REDIS_URL=redis_url))
    assert found["Redis encryption"][0] == "REDIS_URL has no password"
    found = problems(look(REDIS_URL="redis://:hidden-1@redis.invalid:6379/0"))
    assert found["Redis encryption"][0] == (
        "REDIS_URL has no TLS: redis.invalid is sent the password as it is"
    )
    assert found["Redis"][1] == "correct REDIS_URL, or let the network through to it"


def test_a_wrong_password_is_told_and_not_shown(look: Diagnose, tls_redis: RedisServers) -> None:
    wrong = tls_redis.url.replace(quote(PASSWORD, safe=""), "wr0ng-word")
    found = look(REDIS_URL=wrong)
    assert "refuses the login" in problems(found)["Redis"][0]
    assert "wr0ng-word" not in str(found)


def test_a_certificate_of_a_stranger_is_told(look: Diagnose, tls_redis: RedisServers) -> None:
    found = problems(look(REDIS_URL=tls_redis.url.partition("?")[0]))
    assert "certificate is refused" in found["Redis"][0]
    assert found["Redis memory"] == ("not checked: it needs Redis", "")
    assert "ssl_ca_certs" in found["Redis"][1]
