"""The whole stack, from settings to addresses, in the order in which one part needs another."""

from __future__ import annotations

import pulumi

from cloud.alerts import create_alerts
from cloud.api import address, create_api, newest_address
from cloud.api_secrets import create_api_secrets
from cloud.buckets import Buckets, create_buckets
from cloud.containers import Given
from cloud.iam import create_identities
from cloud.image import build_image
from cloud.jobs import create_job, planned_jobs, smoke_test
from cloud.network import create_network
from cloud.online_store import create_online_store
from cloud.project import enable_services, number_of, set_budget
from cloud.schedules import schedule_job
from cloud.settings import Settings, SettingsError, project_root, read_settings, recipe_name
from cloud.tracking import create_tracking
from cloud.warehouse import create_datasets


def deploy() -> None:
    """Declare every resource of the stack.

    Raises
    ------
    pulumi.RunError
        If the settings cannot be used; Pulumi prints its message alone.
    """
    stack = pulumi.get_stack()
    try:
        settings = read_settings(
            project_root() / "deploy" / f"Pulumi.{stack}.yaml", pulumi.get_project()
        )
        declare(settings, stack)
    except SettingsError as err:
        raise pulumi.RunError(str(err)) from err


def declare(settings: Settings, stack: str) -> None:
    """Declare every resource of these settings."""
    services = enable_services()
    number = number_of(settings.project, services)
    set_budget(settings, number)
    identities = create_identities(settings.project, services)
    network = create_network(settings, services)
    datasets = create_datasets(settings.location, identities)
    buckets = create_buckets(settings, stack, identities)
    image = build_image(settings, services)
    online_store = create_online_store(settings, network, identities)
    tracking = create_tracking(settings, number, image, buckets, identities)
    clients = online_store | tracking
    cloud = _project(settings, buckets)
    after = [*datasets, *buckets.grants]
    for planned in planned_jobs(settings):
        identity = identities.refresher if planned.writes_raw else identities.runner
        job = create_job(planned, settings, image, cloud | clients, identity, network, after)
        if planned.schedule is not None:
            schedule_job(planned.name, planned.schedule, job, settings, identities.scheduler)
    create_alerts(settings, services)
    secrets = create_api_secrets(identities, events=settings.serving.events)
    pulumi.export("api_key", secrets.key)
    if secrets.event_key is not None:
        pulumi.export("event_key", secrets.event_key)
    for recipe in settings.recipes:
        tested = Given(variables={"API_URL": newest_address(recipe, settings, number)})
        given = cloud | clients | secrets.smoke_test | tested
        create_job(smoke_test(recipe), settings, image, given, identities.runner, network, after)
    for recipe in settings.recipes if settings.serve else []:
        service = create_api(recipe, settings, image, clients, secrets, identities, network)
        name = recipe_name(recipe)
        pulumi.export(f"api_{name}", address(f"api-{name}", settings, number))
        # `runner release` returns to it.
        pulumi.export(f"revision_{name}", service.latest_ready_revision)


def _project(settings: Settings, buckets: Buckets) -> Given:
    """Return the variables of the runner's target `cloud`."""
    return Given(
        variables={
            "APP_ENV": "cloud",
            "GOOGLE_CLOUD_PROJECT": settings.project,
            "BIGQUERY_LOCATION": settings.location,
            "FEAST_REGISTRY": buckets.data.apply(lambda name: f"gs://{name}/feast/registry.db"),
        }
    )
