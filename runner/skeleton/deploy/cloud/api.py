"""The prediction API: a Cloud Run service for each recipe.

Two guards, one behind the other: Cloud Run lets in only `callers`, by the identity token in
`Authorization`; the API itself wants a key in `X-API-Key`. `/metrics` wants a key as well, and the
Prometheus sidecar of Cloud Run can send none, so Google's OpenTelemetry collector runs beside the
API with a key of its own.
"""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi_gcp.cloudrunv2 as run
import yaml

from cloud.api_secrets import COLLECTOR_CONFIG, PORT, ApiSecrets
from cloud.containers import Given, limits, service_network
from cloud.iam import Identities
from cloud.network import Network
from cloud.settings import Release, Settings, SettingsError, project_root, recipe_name

_COLLECTOR = (
    "us-docker.pkg.dev/cloud-ops-agents-artifacts/google-cloud-opentelemetry-collector/"
    "otelcol-google:0.156.0"
)
# The champion is also looked at when a request finds the watch asleep; asking more often would only
# keep the MLflow server awake.
_RELOAD_SECONDS = "60"
_NEWEST = "newest"
"""The tag of the newest revision."""


def create_api(
    recipe: str,
    settings: Settings,
    image: pulumi.Output[str],
    given: Given,
    secrets: ApiSecrets,
    identities: Identities,
    network: Network,
) -> run.Service:
    """Return the service of one recipe, with its callers: smoke tests are one."""
    name = f"api-{recipe_name(recipe)}"
    api, collector = identities.api, secrets.collector
    model = registered_model(project_root() / recipe)
    given |= secrets.server | Given(
        variables=settings.serving.variables(model)
        | {
            "SERVING_HOST": "0.0.0.0",  # noqa: S104 - a container has no other way to be reached
            "SERVING_PORT": str(PORT),
            "SERVING_MODEL": f"models:/{model}@champion",
            "SERVING_RELOAD_SECONDS": _RELOAD_SECONDS,
        }
    )
    size = settings.api
    service = run.Service(
        name,
        name=name,
        location=settings.region.value,
        ingress="INGRESS_TRAFFIC_ALL",
        invoker_iam_disabled=False,
        traffics=shares(settings.releases.get(recipe_name(recipe))),
        template=run.ServiceTemplateArgs(
            service_account=api.account.email,
            max_instance_request_concurrency=size.concurrency,
            scaling=run.ServiceTemplateScalingArgs(
                min_instance_count=size.min_instances, max_instance_count=size.max_instances
            ),
            vpc_access=service_network(network),
            volumes=[*given.service_volumes(), *collector.service_volumes()],
            containers=[_server(settings, image, given), _collector(settings, collector)],
        ),
        opts=pulumi.ResourceOptions(depends_on=[*given.ready, *collector.ready, *api.grants]),
    )
    callers: dict[str, pulumi.Input[str]] = {member: member for member in settings.callers}
    for caller, member in (callers | {"smoke-test": identities.runner.member}).items():
        run.ServiceIamMember(
            f"{name}-{caller}",
            name=service.name,
            location=settings.region.value,
            role="roles/run.invoker",
            member=member,
        )
    return service


def newest_address(
    recipe: str, settings: Settings, number: pulumi.Output[str]
) -> pulumi.Output[str]:
    """Return where the newest revision of a recipe's API answers, whatever its share."""
    return address(f"{_NEWEST}---api-{recipe_name(recipe)}", settings, number)


def address(service: str, settings: Settings, number: pulumi.Output[str]) -> pulumi.Output[str]:
    """Return where a service of Cloud Run answers."""
    return number.apply(lambda value: f"https://{service}-{value}.{settings.region.value}.run.app")


def shares(release: Release | None) -> list[run.ServiceTrafficArgs]:
    """Return who gets which share; the newest revision is always reached by its tag, too."""
    share = 100 if release is None else release.share
    newest = run.ServiceTrafficArgs(
        type="TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", percent=share, tag=_NEWEST
    )
    if release is None or share == 100:
        return [newest]
    stable = run.ServiceTrafficArgs(
        type="TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION",
        revision=release.stable,
        percent=100 - share,
    )
    return [stable, newest]


def registered_model(recipe: Path) -> str:
    """Return the name that a recipe's models are registered under."""
    try:
        return str(yaml.safe_load(recipe.read_text(encoding="utf-8"))["registered_model_name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as err:
        raise SettingsError(f"{recipe}: no registered_model_name: {err}") from err


def _server(
    settings: Settings, image: pulumi.Output[str], given: Given
) -> run.ServiceTemplateContainerArgs:
    size = settings.api
    return run.ServiceTemplateContainerArgs(
        name="api",
        image=image,
        commands=["python"],
        args=["-m", "serving"],
        ports=run.ServiceTemplateContainerPortsArgs(container_port=PORT),
        resources=run.ServiceTemplateContainerResourcesArgs(
            limits=limits(size.cpu, size.memory_gib),
            cpu_idle=not size.cpu_always,
            startup_cpu_boost=True,
        ),
        envs=given.service_envs(),
        volume_mounts=given.service_mounts(),
        startup_probe=run.ServiceTemplateContainerStartupProbeArgs(
            http_get=run.ServiceTemplateContainerStartupProbeHttpGetArgs(path="/ready", port=PORT),
            period_seconds=1,  # a cold start lasts no longer than it must
            timeout_seconds=1,
            failure_threshold=120,
        ),
        liveness_probe=run.ServiceTemplateContainerLivenessProbeArgs(
            http_get=run.ServiceTemplateContainerLivenessProbeHttpGetArgs(
                path="/health", port=PORT
            ),
            period_seconds=30,
            timeout_seconds=5,
        ),
    )


def _collector(settings: Settings, collector: Given) -> run.ServiceTemplateContainerArgs:
    return run.ServiceTemplateContainerArgs(
        name="collector",
        image=_COLLECTOR,
        args=[f"--config={COLLECTOR_CONFIG}"],
        # Besides the API's: half a core and half a GiB are the least that a collector runs in.
        resources=run.ServiceTemplateContainerResourcesArgs(
            limits={"cpu": "0.5", "memory": "512Mi"}, cpu_idle=not settings.api.cpu_always
        ),
        volume_mounts=collector.service_mounts(),
    )
