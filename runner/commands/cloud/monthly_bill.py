"""A month's bill of a deployment, from its sizes and its use. At most, where use is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from runner.bytes_billed import query_usd
from runner.commands.cloud import prices
from runner.commands.cloud.deployment_sizes import (
    ApiInstances,
    DeploymentSizes,
    MemorystoreSize,
    RedisElsewhere,
    TrackingServer,
    runs_per_month,
)
from runner.commands.cloud.prices import HOURS, SECONDS, Price
from runner.errors import RunnerError

# A request of the API is billed for 0.1 s at least; one that wakes an instance also for its start.
_PREDICTION_SECONDS = 2.1
# What one core answers in a second, far below what it can: docs/benchmarks.md.
_PREDICTIONS_PER_SECOND = 500
# An instance that wakes asks MLflow, which may have to wake as well: our estimate.
_WAKE_SECONDS = 20.0
JOB_MINUTES: Mapping[str, float] = {
    "materialize": 3,
    "refresh": 3,
    "train": 10,
    "audit": 3,
    "monitor": 3,
}
"""Our estimates for small marts: dbt alone takes one or two."""
_COLLECTOR_CPU, _COLLECTOR_GIB = 0.5, 0.5  # beside each instance of the API
_DATABASE_GB = 10  # the least that Cloud SQL sells


@dataclass(frozen=True)
class MonthOfUse:
    """What a month asks of a deployment.

    Attributes
    ----------
    bytes_billed
        Of all BigQuery queries together.
    stored_gib, warehouse_gib
        In the buckets, and in BigQuery.
    network_gib
        What leaves Google's network.
    """

    predictions: int
    bytes_billed: float
    stored_gib: float
    warehouse_gib: float
    network_gib: float


@dataclass(frozen=True)
class BillPart:
    """One line of the bill, and how it comes about."""

    name: str
    usd: float
    how: str


def monthly_bill(sizes: DeploymentSizes, use: MonthOfUse, price_per_tib: float) -> list[BillPart]:
    """Return the bill by part.

    Raises
    ------
    RunnerError
        If a size has no price.
    """
    stored = prices.BUCKET_MULTI_REGION if len(sizes.location) == 2 else prices.BUCKET_REGION
    apis = len(sizes.recipes)
    return [
        BillPart(
            "BigQuery",
            query_usd(use.bytes_billed, price_per_tib)
            + use.warehouse_gib * prices.WAREHOUSE_STORAGE.usd,
            f"{use.bytes_billed / 2**40:.3f} TiB queried, {use.warehouse_gib:g} GiB stored",
        ),
        _redis(sizes),
        BillPart("API", *_api(sizes.api, apis, use.predictions)),
        BillPart("MLflow", *_tracking(sizes, use.predictions)),
        _jobs(sizes),
        _database(sizes.tracking),
        BillPart("storage", use.stored_gib * stored.usd, f"{use.stored_gib:g} GiB in buckets"),
        BillPart(
            "network", use.network_gib * prices.NETWORK.usd, f"{use.network_gib:.2f} GB to callers"
        ),
    ]


def _redis(sizes: DeploymentSizes) -> BillPart:
    store = sizes.online_store
    if isinstance(store, RedisElsewhere):
        nat = prices.NAT.usd * HOURS * len(sizes.recipes)
        return BillPart(
            "Redis", prices.REDIS_EXTERNAL.usd + nat, "external, 100 MB; and the way out"
        )
    table = prices.REDIS_BASIC if store.tier == "BASIC" else prices.REDIS_STANDARD_HA
    return BillPart(
        "Redis",
        store.size_gb * _by_size(table, store).usd * HOURS,
        f"Memorystore {store.tier}, {store.size_gb} GB",
    )


def _by_size(table: Mapping[int, Price], store: MemorystoreSize) -> Price:
    for largest, price in table.items():
        if store.size_gb <= largest:
            return price
    raise RunnerError(
        f"online_store.size_gb: {store.size_gb} GB has no price",
        hint=f"Memorystore goes up to {max(table)} GB",
    )


def _api(api: ApiInstances, services: int, predictions: int) -> tuple[float, str]:
    """Return the price of the APIs, and why."""
    cpu, memory = api.cpu + _COLLECTOR_CPU, api.memory_gib + _COLLECTOR_GIB
    most = SECONDS * max(1, ceil(predictions / SECONDS / _PREDICTIONS_PER_SECOND))
    active = min(predictions * _PREDICTION_SECONDS, most)
    kept = api.min_instances * services * SECONDS
    if api.cpu_always:
        seconds = max(kept, active)
        rate = cpu * prices.CPU_ALWAYS.usd + memory * prices.MEMORY_ALWAYS.usd
        return seconds * rate, f"{seconds:,.0f} s of instances that keep their CPU"
    usd, how = _in_requests(cpu, memory, active, kept)
    return usd + predictions * prices.REQUEST.usd, how


def _tracking(sizes: DeploymentSizes, predictions: int) -> tuple[float, str]:
    """Return the price of the MLflow server, and why: it works while somebody trains or wakes."""
    server = sizes.tracking
    trainings = runs_per_month(sizes.schedules.train) * len(sizes.recipes)
    asked = trainings * JOB_MINUTES["train"] * 60 + predictions * _WAKE_SECONDS
    active = min(asked, SECONDS)
    return _in_requests(server.cpu, server.memory_gib, active, server.min_instances * SECONDS)


def _in_requests(cpu: float, memory: float, active: float, kept: float) -> tuple[float, str]:
    """Return the price of instances that have their CPU only in requests, and why.

    Parameters
    ----------
    active, kept
        Seconds in requests, and for which instances are kept.
    """
    waiting = max(kept - active, 0)
    in_requests = cpu * prices.CPU_IN_REQUESTS.usd + memory * prices.MEMORY_IN_REQUESTS.usd
    idle = cpu * prices.CPU_IDLE.usd + memory * prices.MEMORY_IDLE.usd
    usd = active * in_requests + waiting * idle
    return usd, f"{active:,.0f} s of requests, {waiting:,.0f} s idle"


def _jobs(sizes: DeploymentSizes) -> BillPart:
    per_recipe = len(sizes.recipes)
    runs = {
        "materialize": runs_per_month(sizes.schedules.materialize),
        "refresh": runs_per_month(sizes.schedules.refresh),
        "train": runs_per_month(sizes.schedules.train) * per_recipe,
        "audit": runs_per_month(sizes.schedules.audit) * per_recipe,
        "monitor": runs_per_month(sizes.schedules.monitor) * per_recipe,
    }
    seconds = sum(count * JOB_MINUTES[job] * 60 for job, count in runs.items())
    rate = sizes.jobs.cpu * prices.CPU_ALWAYS.usd + sizes.jobs.memory_gib * prices.MEMORY_ALWAYS.usd
    shown = ", ".join(f"{count:.0f} × {job}" for job, count in runs.items())
    return BillPart("jobs", seconds * rate, shown)


def _database(server: TrackingServer) -> BillPart:
    tier = server.database_tier
    custom = re.fullmatch(r"db-custom-(\d+)-(\d+)", tier)
    if custom is not None:
        cpus, mebibytes = int(custom[1]), int(custom[2])
        hourly = cpus * prices.SQL_CPU.usd + mebibytes / 1024 * prices.SQL_MEMORY.usd
    else:
        shared = {"db-f1-micro": prices.SQL_MICRO, "db-g1-small": prices.SQL_SMALL}
        if tier not in shared:
            raise RunnerError(
                f"tracking.database_tier: {tier} has no price",
                hint=f"use {', '.join(shared)} or db-custom-<vCPUs>-<MiB>",
            )
        hourly = shared[tier].usd
    disk = _DATABASE_GB * (prices.SQL_STORAGE.usd + prices.SQL_BACKUP.usd)
    return BillPart("Cloud SQL", hourly * HOURS + disk, f"{tier}, {_DATABASE_GB} GB with backups")
