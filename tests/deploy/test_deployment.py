"""What `pulumi up` would make of the shop, on Google Cloud that only answers as if.

The program runs whole, under Pulumi's mocks. What those cannot show, docs/cloud.md lists.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from contract.serving_settings import Limits, ServingSettings
from runner.cli import app
from runner.commands.project.checks.bigquery import DATASETS
from runner.recipes.recipe import load_recipe
from serving.http.api_keys import PROBES
from serving.http.guard import ROUTES
from tests.deploy.stacks import ROOT, Declared, Stack, declared

CALLER = "serviceAccount:shop@my-project.iam.gserviceaccount.com"
RUNNER = "serviceAccount:ml-runner@my-project.iam.gserviceaccount.com"
RECIPE_JOBS = ("train", "audit", "monitor", "smoke")
SHIPPED = yaml.safe_load((ROOT / "deploy" / "Pulumi.prod.yaml").read_text())["config"]
SERVING = SHIPPED["shop:serving"]
SERVICE, JOB = "cloudrunv2/service:Service", "cloudrunv2/job:Job"


@pytest.fixture(name="stack", scope="module")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The shop with two recipes that are served."""
    return declared(
        tmp_path_factory.mktemp("stack"),
        serve=True,
        recipes=["recipes/rf.yaml", "recipes/hgb.yaml"],
        callers=[CALLER],
        budget={"billing_account": "012345-6789AB-CDEF01", "usd": 100},
        releases={
            "rf": {"stable": "api-rf-00001-abc", "share": 10},
            "hgb": {"stable": "api-hgb-00001-abc", "share": 0},
        },
        serving={**SERVING, "events": True, "shadow": "challenger", "log_share": 0.5},
    )


@pytest.fixture(name="elsewhere", scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The shop before its first training, with a Redis that is not Google's."""
    return declared(tmp_path_factory.mktemp("elsewhere"), online_store={"kind": "external"})


def containers(resource: Declared) -> list[dict[str, Any]]:
    """Return the containers of a service or a job."""
    template = resource.inputs["template"]
    found: list[dict[str, Any]] = template.get("template", template)["containers"]
    return found


def account(resource: Declared) -> str:
    """Return the service account that a service or a job runs as."""
    template = resource.inputs["template"]
    return str(template.get("template", template)["serviceAccount"])


def running(stack: Stack) -> list[Declared]:
    """Return every service and job."""
    return [*stack.all(SERVICE), *stack.all(JOB)]


# Commands


def command_lines(stack: Stack) -> Iterator[str]:
    """Yield each command that a job runs."""
    for job in stack.all(JOB):
        [container] = containers(job)
        assert container["commands"] == ["sh"]
        option, script = container["args"]
        assert option == "-ec"
        yield from script.split(" && ")


def test_every_job_runs_commands_that_exist_with_arguments_that_fit(stack: Stack) -> None:
    lines = set(command_lines(stack))
    assert {line for line in lines if not line.startswith("runner ")} == {
        "dbt build --target cloud",
        "dbt parse --target cloud",
    }
    for line in lines:
        program, name, *arguments = shlex.split(line)
        if program == "runner":
            command = typer.main.get_command(app).commands[name]
            command.make_context(name, list(arguments))
        for argument in arguments:
            assert not argument.startswith("recipes/") or (ROOT / argument).is_file()


def test_every_recipe_is_trained_audited_and_served(stack: Stack) -> None:
    jobs = {job.inputs["name"] for job in stack.all(JOB)}
    services = {service.inputs["name"] for service in stack.all(SERVICE)}
    of_recipes = {f"{job}-{name}" for job in RECIPE_JOBS for name in ("rf", "hgb")}
    assert jobs == {"refresh", "materialize", "shell", *of_recipes}
    assert services == {"mlflow", "api-rf", "api-hgb"}
    for service in stack.all(SERVICE):
        if service.name != "tracking":
            [env] = [e for e in containers(service)[0]["envs"] if e["name"] == "SERVING_MODEL"]
            recipe = service.name.removeprefix("api-").replace("-", "_")
            model = load_recipe(ROOT / "recipes" / f"{recipe}.yaml").registered_model_name
            assert env["value"] == f"models:/{model}@champion"


def test_before_the_first_training_there_is_no_api(elsewhere: Stack) -> None:
    assert [service.name for service in elsewhere.all(SERVICE)] == ["tracking"]


# Variables


def package(name: str) -> Path:
    """Return the folder of a package of ours or of others."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def text_of(*places: Path) -> str:
    """Return all that is written in these files and folders."""
    kinds = {".py", ".env", ".yml", ".yaml", ""}
    files = [
        file
        for place in places
        for file in ([place] if place.is_file() else place.rglob("*"))
        if file.is_file() and file.suffix in kinds and "skeleton" not in file.parts
    ]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def test_every_variable_is_read_by_our_code_or_by_mlflow(stack: Stack) -> None:
    ours = text_of(*(ROOT / n for n in ("contract", "runner", "serving", "profiles", "Dockerfile")))
    mlflow = package("mlflow")
    theirs = text_of(
        mlflow / "environment_variables.py",
        mlflow / "cli" / "__init__.py",
        mlflow / "utils" / "cli_args.py",
        mlflow / "server" / "auth",
    )
    given = {
        env["name"]
        for resource in running(stack)
        for c in containers(resource)
        for env in c.get("envs") or []
    }
    assert {"REDIS_URL", "SERVING_API_KEYS", "MLFLOW_BACKEND_STORE_URI"} <= given
    assert {name for name in given if not re.search(rf"\b{name}\b", ours + theirs)} == set()


def api_environment(stack: Stack) -> dict[str, str]:
    """Return the variables of an API; what it has as a secret is `k`, repeated."""
    server, _ = containers(stack.one("api-rf"))
    env = {e["name"]: e.get("value") or "k" * 48 for e in server["envs"]}
    return env | {"REDIS_URL": "rediss://:p@10.0.0.1:6378/0"}


def test_the_api_starts_with_the_variables_that_it_is_deployed_with(stack: Stack) -> None:
    server, _ = containers(stack.one("api-rf"))
    settings = ServingSettings.from_env(api_environment(stack))
    assert settings.port == server["ports"]["containerPort"]
    concurrency = stack.one("api-rf").inputs["template"]["maxInstanceRequestConcurrency"]
    assert concurrency < Limits.concurrency
    assert settings.event_keys
    assert settings.log.share == 0.5
    model = settings.model_uri.partition("@")[0]
    assert settings.shadow.model_uri == f"{model}@challenger"


def test_the_shipped_options_of_the_api_are_its_own_defaults(stack: Stack) -> None:
    changed = {"SERVING_LOG_SHARE", "SERVING_SHADOW"}
    options = {f"SERVING_{name.upper()}" for name in SERVING} - changed
    env = api_environment(stack)
    plain = {name: value for name, value in env.items() if name not in options}
    assert ServingSettings.from_env(env) == ServingSettings.from_env(plain)


# Cloud Run decides how many requests and connections there are, and ends an instance by itself.
NOT_SET = {
    "SERVING_MAX_CONCURRENCY",
    "SERVING_MAX_CONNECTIONS",
    "SERVING_MAX_BUFFERED_BYTES",
    "SERVING_DRAIN_SECONDS",
}


def test_every_variable_of_the_api_is_set_or_left_to_cloud_run(stack: Stack) -> None:
    source = (ROOT / "contract" / "serving_settings.py").read_text()
    known = set(re.findall(r'"(SERVING_[A-Z_]+)"', source))
    assert known == NOT_SET | {name for name in api_environment(stack) if "SERVING_" in name}


def test_events_have_a_key_of_their_own_only_where_they_are_wanted(
    stack: Stack, elsewhere: Stack
) -> None:
    secrets = "secretmanager/secret:Secret"
    assert "event-keys" in {s.inputs["secretId"] for s in stack.all(secrets)}
    assert "event-keys" not in {s.inputs["secretId"] for s in elsewhere.all(secrets)}


def test_the_mlflow_server_starts_with_options_that_it_has(stack: Stack) -> None:
    [server] = containers(stack.one("tracking"))
    assert server["commands"] == ["mlflow"]
    mlflow = package("mlflow")
    source = text_of(mlflow / "cli" / "__init__.py", mlflow / "utils" / "cli_args.py")
    options = [option for option in server["args"] if option.startswith("--")]
    assert options
    assert [option for option in options if f'"{option}"' not in source] == []


# Secrets, files and who reads them


def uses(resource: Declared) -> set[str]:
    """Return the secrets that a service or a job is given, as variables and as files."""
    template = resource.inputs["template"]
    template = template.get("template", template)
    envs = [env for c in template["containers"] for env in c.get("envs") or []]
    sources = [env.get("valueSource") for env in envs]
    found = {s["secretKeyRef"]["secret"] for s in sources if s is not None}
    volumes = [volume.get("secret") for volume in template.get("volumes") or []]
    return found | {volume["secret"] for volume in volumes if volume is not None}


@pytest.mark.parametrize("which", ["stack", "elsewhere"])
def test_every_secret_is_granted_to_exactly_who_reads_it(
    which: str, request: pytest.FixtureRequest
) -> None:
    stack: Stack = request.getfixturevalue(which)
    granted: dict[str, set[str]] = defaultdict(set)
    for grant in stack.all("secretmanager/secretIamMember:SecretIamMember"):
        assert grant.inputs["role"] == "roles/secretmanager.secretAccessor"
        granted[grant.inputs["secretId"]].add(grant.inputs["member"].partition(":")[2])
    read: dict[str, set[str]] = defaultdict(set)
    for resource in running(stack):
        for secret in uses(resource):
            read[secret].add(account(resource))
    if which == "elsewhere":  # the API comes later, and its secrets before it
        api = "ml-api@my-project.iam.gserviceaccount.com"
        for readers in (granted, read):
            for accounts in readers.values():
                accounts.discard(api)
        granted = {name: accounts for name, accounts in granted.items() if accounts}
    assert granted == read


def test_files_of_secrets_are_mounted_where_they_are_looked_for(stack: Stack) -> None:
    mounted = set()
    for resource in running(stack):
        template = resource.inputs["template"]
        template = template.get("template", template)
        names = {
            v["name"]: v["secret"]["items"][0]["path"]
            for v in template.get("volumes") or []
            if v.get("secret")
        }
        for container in template["containers"]:
            for mount in container.get("volumeMounts") or []:
                if mount["name"] in names:
                    mounted.add(f"{mount['mountPath']}/{names[mount['name']]}")
    url = stack.secret("redis-url")
    looked_for = {re.search(r"ssl_ca_certs=(/\S+)", url)[1]}  # type: ignore[index]
    looked_for |= {
        env["value"]
        for env in containers(stack.one("tracking"))[0]["envs"]
        if env["name"] == "MLFLOW_AUTH_CONFIG_PATH"
    }
    collector = containers(stack.one("api-rf"))[1]
    looked_for |= {collector["args"][0].removeprefix("--config=")}
    looked_for |= {scraped(stack)["authorization"]["credentials_file"]}
    assert mounted == looked_for


def test_no_process_runs_as_googles_default_account(stack: Stack) -> None:
    made = {
        f"{a.inputs['accountId']}@my-project.iam.gserviceaccount.com"
        for a in stack.all("serviceaccount/account:Account")
    }
    used = {account(resource) for resource in running(stack)}
    used |= {
        schedule.inputs["httpTarget"]["oauthToken"]["serviceAccountEmail"]
        for schedule in stack.all("cloudscheduler/job:Job")
    }
    assert used == made


def test_no_role_is_wide_and_none_is_for_everybody(stack: Stack) -> None:
    grants = [r for r in stack.resources if "IamMember" in r.kind or "IAMMember" in r.kind]
    assert len(grants) > 20
    for grant in grants:
        assert grant.inputs["member"] not in {"allUsers", "allAuthenticatedUsers"}
        assert grant.inputs["role"] not in {"roles/owner", "roles/editor", "roles/viewer"}
        assert "admin" not in grant.inputs["role"].lower()


# Who may ask


def test_only_the_api_takes_requests_from_outside_and_only_of_its_callers(stack: Stack) -> None:
    outside = [s for s in stack.all(SERVICE) if s.inputs["ingress"] == "INGRESS_TRAFFIC_ALL"]
    assert {s.name for s in outside} == {s.name for s in stack.all(SERVICE)} - {"tracking"}
    for service in outside:
        assert service.inputs["invokerIamDisabled"] is False
        assert "SERVING_API_KEYS" in {e["name"] for e in containers(service)[0]["envs"]}
    members = {
        (m.inputs["name"], m.inputs["member"])
        for m in stack.all("cloudrunv2/serviceIamMember:ServiceIamMember")
    }
    assert members == {(s.inputs["name"], who) for s in outside for who in (CALLER, RUNNER)}
    assert stack.one("tracking").inputs["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    database = stack.one("tracking-database").inputs["settings"]["ipConfiguration"]
    assert not database.get("authorizedNetworks")


def test_probes_ask_paths_that_are_open(stack: Stack) -> None:
    server, _ = containers(stack.one("api-rf"))
    probes = [server["startupProbe"]["httpGet"], server["livenessProbe"]["httpGet"]]
    assert {probe["path"] for probe in probes} == PROBES
    assert {probe["port"] for probe in probes} == {ServingSettings.port}


# Schedules


def test_every_schedule_starts_a_job_that_it_may_start(stack: Stack) -> None:
    jobs = {job.inputs["name"] for job in stack.all(JOB)}
    invokers = {
        (m.inputs["name"], m.inputs["member"])
        for m in stack.all("cloudrunv2/jobIamMember:JobIamMember")
        if m.inputs["role"] == "roles/run.invoker"
    }
    schedules = stack.all("cloudscheduler/job:Job")
    scheduled = {schedule.inputs["name"] for schedule in schedules}
    assert jobs - scheduled == {"shell", "smoke-rf", "smoke-hgb"}
    for schedule in schedules:
        target = schedule.inputs["httpTarget"]
        [name] = re.findall(
            r"/projects/my-project/locations/us-central1/jobs/(.+):run$", target["uri"]
        )
        assert name in jobs
        email = target["oauthToken"]["serviceAccountEmail"]
        assert (name, f"serviceAccount:{email}") in invokers
        assert schedule.inputs["retryConfig"]["retryCount"] > 0


# Data


def test_the_datasets_are_those_that_doctor_looks_for(stack: Stack) -> None:
    made = [d.inputs["datasetId"] for d in stack.all("bigquery/dataset:Dataset")]
    assert sorted(made) == sorted([*DATASETS, "monitoring"])  # which the first monitoring may make
    writable = defaultdict(set)
    for grant in stack.all("bigquery/datasetIamMember:DatasetIamMember"):
        if grant.inputs["role"] == "roles/bigquery.dataEditor":
            writable[grant.inputs["member"]].add(grant.inputs["datasetId"])
    refresher = RUNNER.replace("ml-runner", "ml-refresher")
    assert writable == {RUNNER: set(made) - {"raw_events"}, refresher: set(made)}
    assert {job.name for job in stack.all(JOB) if account(job) in refresher} == {"job-refresh"}


def test_every_bucket_is_private_and_has_a_lifecycle(stack: Stack) -> None:
    buckets = stack.all("storage/bucket:Bucket")
    assert {bucket.name for bucket in buckets} == {
        "ml-artifacts-prod",
        "ml-data-processed-prod",
        "ml-logs-archive-prod",
    }
    for bucket in buckets:
        assert bucket.inputs["lifecycleRules"]
        assert bucket.inputs["publicAccessPrevention"] == "enforced"
        assert bucket.inputs["uniformBucketLevelAccess"] is True
    sink = stack.one("logs").inputs["destination"]
    assert sink.endswith(stack.one("ml-logs-archive-prod").inputs["name"])


def test_redis_wants_tls_and_a_password_and_evicts_nothing(stack: Stack) -> None:
    redis = stack.one("online-store").inputs
    assert redis["authEnabled"] is True
    assert redis["transitEncryptionMode"] == "SERVER_AUTHENTICATION"
    assert redis["redisConfigs"] == {"maxmemory-policy": "noeviction"}
    assert stack.secret("redis-url").startswith("rediss://:auth")


def test_a_redis_elsewhere_is_reached_through_nat_by_its_secret_address(elsewhere: Stack) -> None:
    assert not elsewhere.all("redis/instance:Instance")
    assert elsewhere.all("compute/routerNat:RouterNat")
    url = elsewhere.secret("redis-url")
    assert url == "rediss://:p@redis.example.com:6379/0"


# Watching


def scraped(stack: Stack) -> dict[str, Any]:
    """Return what the collector reads its metrics from."""
    config = yaml.safe_load(stack.secret("collector"))
    pipeline = config["service"]["pipelines"]["metrics"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) <= set(config[part])
    [found] = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    return dict(found)


def test_the_collector_reads_the_metrics_of_the_api(stack: Stack) -> None:
    found = scraped(stack)
    assert found["metrics_path"] in ROUTES
    assert found["static_configs"] == [{"targets": [f"localhost:{ServingSettings.port}"]}]


def test_every_rule_is_a_policy_that_mails_somebody(stack: Stack) -> None:
    policies = stack.all("monitoring/alertPolicy:AlertPolicy")
    queries = {}
    for policy in policies:
        assert policy.inputs["notificationChannels"]
        [condition] = policy.inputs["conditions"]
        found = condition.get("conditionPrometheusQueryLanguage")
        if found is not None:
            queries[policy.inputs["displayName"]] = found["query"]
    groups = yaml.safe_load((ROOT / "monitoring" / "alerts.yml").read_text())["groups"]
    assert queries == {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    assert {p.inputs["displayName"] for p in policies} - queries.keys() == {"ScheduleFailed"}


def test_the_dashboard_is_the_one_described(stack: Stack) -> None:
    content = json.loads(stack.one("dashboard").inputs["dashboardJson"])
    charts = [tile["widget"]["xyChart"] for tile in content["mosaicLayout"]["tiles"]]
    asked = [d["timeSeriesQuery"]["prometheusQuery"] for c in charts for d in c["dataSets"]]
    described = yaml.safe_load((ROOT / "monitoring" / "dashboard.yml").read_text())
    assert asked == [q for panel in described["panels"] for q in panel["queries"].values()]


# Releases


def test_traffic_is_shared_as_the_settings_say(stack: Stack) -> None:
    stable, newest = stack.one("api-rf").inputs["traffics"]
    assert (stable["revision"], stable["percent"]) == ("api-rf-00001-abc", 90)
    assert (newest["percent"], newest["tag"]) == (10, "newest")
    stable, newest = stack.one("api-hgb").inputs["traffics"]
    assert (stable["percent"], newest["percent"]) == (100, 0)


def test_a_smoke_test_asks_the_newest_revision_with_a_key_of_its_own(stack: Stack) -> None:
    [container] = containers(stack.one("job-smoke-rf"))
    env = {e["name"]: e for e in container["envs"]}
    assert env["API_URL"]["value"] == "https://newest---api-rf-123456789.us-central1.run.app"
    tag = {t["tag"] for t in stack.one("api-rf").inputs["traffics"] if t.get("tag")}
    assert tag == {"newest"}
    key = env["SERVING_API_KEYS"]["valueSource"]["secretKeyRef"]["secret"]
    assert key == "smoke-test-key"
    assert len(stack.secret("api-keys").split(",")) == 3


def test_everything_runs_the_image_by_its_digest(stack: Stack) -> None:
    images = {
        container["image"] for resource in running(stack) for container in containers(resource)
    }
    ours = {image for image in images if "my-project" in image}
    assert len(ours) == 1
    assert re.search("@sha256:", ours.pop())
