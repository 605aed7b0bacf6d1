"""What `deploy/Pulumi.<stack>.yaml` says that costs money: sizes and schedules.

The Pulumi program checks the whole file; here only what is priced is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import RunnerError

_DAYS = 365 / 12
_RANGES = (range(60), range(24), range(1, 32), range(1, 13), range(8))


class _Sized(BaseModel):
    model_config = ConfigDict(frozen=True)


class ApiInstances(_Sized):
    """The API's instances."""

    cpu: float
    memory_gib: float
    min_instances: int
    cpu_always: bool


class TrackingServer(_Sized):
    """The MLflow server and its database."""

    cpu: float
    memory_gib: float
    min_instances: int
    database_tier: str


class MemorystoreSize(_Sized):
    """A Redis of Google's."""

    kind: Literal["memorystore"]
    tier: Literal["BASIC", "STANDARD_HA"]
    size_gb: int


class RedisElsewhere(_Sized):
    """A managed Redis of somebody else's."""

    kind: Literal["external"]


class JobInstances(_Sized):
    """What a job has to itself."""

    cpu: float
    memory_gib: float


class JobSchedules(_Sized):
    """When jobs run, as cron; None: never."""

    materialize: str | None
    refresh: str | None = None
    train: str | None
    audit: str | None
    monitor: str | None = None


class DeploymentSizes(_Sized):
    """What is priced of one stack."""

    location: str
    recipes: list[str]
    api: ApiInstances
    tracking: TrackingServer
    online_store: Annotated[MemorystoreSize | RedisElsewhere, Field(discriminator="kind")]
    jobs: JobInstances
    schedules: JobSchedules


def read_sizes(root: Path, stack: str) -> DeploymentSizes:
    """Return what the settings of a stack say.

    Raises
    ------
    RunnerError
        If there is no such file, or a value is missing or not of its type.
    """
    path = root / "deploy" / f"Pulumi.{stack}.yaml"
    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as err:
        raise RunnerError(
            f"{path}: no settings of a deployment",
            hint="copy deploy/ from a project of `runner init`, or name another --stack",
        ) from err
    own = {key.partition(":")[2]: value for key, value in config.items()}
    try:
        return DeploymentSizes.model_validate(own)
    except ValidationError as err:
        problem = err.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise RunnerError(
            f"{path}: {key}: {problem['msg']}", hint="write it as `runner help cloud` shows"
        ) from err


def runs_per_month(cron: str | None) -> float:
    """Return how often a schedule starts something in a mean month."""
    if cron is None:
        return 0.0
    minutes, hours, days, months, weekdays = map(_values, cron.split(), _RANGES)
    in_week = len({day % 7 for day in weekdays})
    by_day, by_weekday = len(days) < len(_RANGES[2]), in_week < 7
    on_days = len(days) / 31 * _DAYS if by_day else 0.0
    on_weekdays = in_week / 7 * _DAYS if by_weekday else 0.0
    in_month = on_days + on_weekdays if by_day or by_weekday else _DAYS
    return len(minutes) * len(hours) * in_month * len(months) / 12


def _values(field: str, allowed: range) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        bounds, _, step = part.partition("/")
        low, _, high = bounds.partition("-")
        first = allowed[0] if low == "*" else int(low)
        alone = int(low) if low != "*" and not step else allowed[-1]
        last = int(high) if high else alone
        found.update(range(first, last + 1, int(step or 1)))
    return found
