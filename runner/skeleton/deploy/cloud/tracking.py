"""The MLflow server: Cloud Run in front of a PostgreSQL of Cloud SQL and the artifact bucket.

It lets in who knows the password, and only from inside the network. Cloud Run's own guard would
want the `Authorization` header that the password travels in.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp
import pulumi_gcp.cloudrunv2 as run

from cloud.buckets import Buckets
from cloud.containers import Given, limits
from cloud.iam import Identities, Identity
from cloud.secrets import random_text, store_secret
from cloud.settings import Settings

_PORT = 8080
_AUTH = "/secrets/auth/basic_auth.ini"
_DATABASES = ("mlflow", "mlflow_auth")
_AUTH_INI = """[mlflow]
default_permission = READ
database_uri = {0}
admin_username = admin
admin_password = {1}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
# A server that sleeps takes longer to wake than the 10 s that clients wait for by themselves.
_PATIENCE_SECONDS = "60"


@dataclass(frozen=True)
class Database:
    """MLflow's PostgreSQL: its address on Cloud SQL, and how to log in."""

    instance: gcp.sql.DatabaseInstance
    password: pulumi.Output[str]

    def url(self, name: str) -> pulumi.Output[str]:
        """Return the address of one of its databases, by the socket that Cloud Run mounts."""
        return pulumi.Output.format(
            "postgresql://mlflow:{0}@/{1}?host=/cloudsql/{2}",
            self.password,
            name,
            self.instance.connection_name,
        )


def create_tracking(
    settings: Settings,
    number: pulumi.Output[str],
    image: pulumi.Output[str],
    buckets: Buckets,
    identities: Identities,
) -> Given:
    """Return what a client of the MLflow server needs."""
    host = number.apply(lambda value: f"mlflow-{value}.{settings.region.value}.run.app")
    database = _database(settings, identities.mlflow)
    admin = random_text("mlflow-admin")
    given = _given(host, database, admin, buckets, identities.mlflow)
    _server(settings, image, given, database, identities.mlflow)
    password = store_secret(
        "mlflow-password", admin, [identities.runner, identities.refresher, identities.api]
    )
    return Given(
        variables={
            "MLFLOW_TRACKING_URI": host.apply(lambda name: f"https://{name}"),
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": _PATIENCE_SECONDS,
        },
        secrets={"MLFLOW_TRACKING_PASSWORD": password},
    )


def _database(settings: Settings, mlflow: Identity) -> Database:
    instance = gcp.sql.DatabaseInstance(
        "tracking-database",
        name="mlflow",
        database_version="POSTGRES_16",
        region=settings.region.value,
        deletion_protection=True,
        settings=gcp.sql.DatabaseInstanceSettingsArgs(
            edition="ENTERPRISE",
            tier=settings.tracking.database_tier,
            # An address without an authorized network: only Cloud SQL's own connector gets in.
            ip_configuration=gcp.sql.DatabaseInstanceSettingsIpConfigurationArgs(
                ipv4_enabled=True, ssl_mode="ENCRYPTED_ONLY"
            ),
            backup_configuration=gcp.sql.DatabaseInstanceSettingsBackupConfigurationArgs(
                enabled=True, point_in_time_recovery_enabled=True, start_time="02:00"
            ),
        ),
        opts=pulumi.ResourceOptions(depends_on=[mlflow.account]),
    )
    for name in _DATABASES:
        gcp.sql.Database(f"database-{name}", name=name, instance=instance.name)
    password = random_text("database")
    gcp.sql.User("database-user", name="mlflow", instance=instance.name, password=password)
    return Database(instance, password)


def _given(
    host: pulumi.Output[str],
    database: Database,
    admin: pulumi.Output[str],
    buckets: Buckets,
    mlflow: Identity,
) -> Given:
    readers = [mlflow]
    auth = pulumi.Output.format(_AUTH_INI, database.url("mlflow_auth"), admin)
    return Given(
        variables={
            "MLFLOW_ARTIFACTS_DESTINATION": buckets.artifacts.apply(lambda b: f"gs://{b}/mlflow"),
            "MLFLOW_SERVER_ALLOWED_HOSTS": host,
            "MLFLOW_AUTH_CONFIG_PATH": _AUTH,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        secrets={
            "MLFLOW_BACKEND_STORE_URI": store_secret(
                "mlflow-database", database.url("mlflow"), readers
            ),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": store_secret(
                "mlflow-session", random_text("mlflow-session"), readers
            ),
        },
        files={_AUTH: store_secret("mlflow-auth", auth, readers)},
    )


def _server(
    settings: Settings,
    image: pulumi.Output[str],
    given: Given,
    database: Database,
    mlflow: Identity,
) -> None:
    size = settings.tracking
    container = run.ServiceTemplateContainerArgs(
        image=image,
        commands=["mlflow"],
        args=[
            "server",
            *("--host", "0.0.0.0", "--port", str(_PORT)),  # noqa: S104 - as every container does
            *("--workers", "1", "--app-name", "basic-auth"),
        ],
        ports=run.ServiceTemplateContainerPortsArgs(container_port=_PORT),
        resources=run.ServiceTemplateContainerResourcesArgs(
            limits=limits(size.cpu, size.memory_gib), cpu_idle=True, startup_cpu_boost=True
        ),
        envs=given.service_envs(),
        volume_mounts=[
            *given.service_mounts(),
            run.ServiceTemplateContainerVolumeMountArgs(name="cloudsql", mount_path="/cloudsql"),
        ],
    )
    sockets = run.ServiceTemplateVolumeArgs(
        name="cloudsql",
        cloud_sql_instance=run.ServiceTemplateVolumeCloudSqlInstanceArgs(
            instances=[database.instance.connection_name]
        ),
    )
    run.Service(
        "tracking",
        name="mlflow",
        location=settings.region.value,
        ingress="INGRESS_TRAFFIC_INTERNAL_ONLY",
        invoker_iam_disabled=True,  # the password is the guard, see above
        template=run.ServiceTemplateArgs(
            service_account=mlflow.account.email,
            containers=[container],
            volumes=[*given.service_volumes(), sockets],
            # One instance: MLflow keeps nothing in memory, but its database is small.
            scaling=run.ServiceTemplateScalingArgs(
                min_instance_count=size.min_instances, max_instance_count=1
            ),
        ),
        opts=pulumi.ResourceOptions(depends_on=[*given.ready, *mlflow.grants]),
    )
