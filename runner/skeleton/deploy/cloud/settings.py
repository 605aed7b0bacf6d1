"""The settings of one stack, from `Pulumi.<stack>.yaml`: typed, complete, and refused by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from cloud.serving_options import ServingOptions
from cloud.settings_part import SettingsPart

_SECRET_KEYS = {"redis_url", "redis_ca"}
"""Kept encrypted by Pulumi: `pulumi config set --secret`. Read in `online_store`."""


class SettingsError(Exception):
    """The settings file cannot be used; the message says where and why."""


class Region(StrEnum):
    """The regions of Cloud Run, Memorystore and Cloud SQL alike."""

    africa_south1 = "africa-south1"
    asia_east1 = "asia-east1"
    asia_east2 = "asia-east2"
    asia_northeast1 = "asia-northeast1"
    asia_northeast2 = "asia-northeast2"
    asia_northeast3 = "asia-northeast3"
    asia_south1 = "asia-south1"
    asia_south2 = "asia-south2"
    asia_southeast1 = "asia-southeast1"
    asia_southeast2 = "asia-southeast2"
    australia_southeast1 = "australia-southeast1"
    australia_southeast2 = "australia-southeast2"
    europe_central2 = "europe-central2"
    europe_north1 = "europe-north1"
    europe_southwest1 = "europe-southwest1"
    europe_west1 = "europe-west1"
    europe_west2 = "europe-west2"
    europe_west3 = "europe-west3"
    europe_west4 = "europe-west4"
    europe_west6 = "europe-west6"
    europe_west8 = "europe-west8"
    europe_west9 = "europe-west9"
    europe_west10 = "europe-west10"
    europe_west12 = "europe-west12"
    me_central1 = "me-central1"
    me_west1 = "me-west1"
    northamerica_northeast1 = "northamerica-northeast1"
    northamerica_northeast2 = "northamerica-northeast2"
    southamerica_east1 = "southamerica-east1"
    southamerica_west1 = "southamerica-west1"
    us_central1 = "us-central1"
    us_east1 = "us-east1"
    us_east4 = "us-east4"
    us_east5 = "us-east5"
    us_south1 = "us-south1"
    us_west1 = "us-west1"
    us_west2 = "us-west2"
    us_west3 = "us-west3"
    us_west4 = "us-west4"


_CRON_FIELDS = (
    ("minute", range(60)),
    ("hour", range(24)),
    ("day of the month", range(1, 32)),
    ("month", range(1, 13)),
    ("day of the week", range(8)),
)


def _cron(text: object) -> object:
    if not isinstance(text, str):
        return text  # pydantic says what it is
    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(f"{text!r} has {len(fields)} fields, a cron schedule has 5")
    for field, (name, allowed) in zip(fields, _CRON_FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, allowed):
                raise ValueError(f"{text!r}: {part!r} does not fit the field {name}")
    return text


def _fits(part: str, allowed: range) -> bool:
    match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
    if match is None:
        return False
    bounds = [int(bound) for bound in match.groups()[:2] if bound is not None]
    return all(bound in allowed for bound in bounds) and bounds == sorted(bounds)


Cron = Annotated[str, BeforeValidator(_cron)]
Member = Annotated[str, Field(pattern=r"^(user|group|serviceAccount|domain):[^\s@]+(@\S+)?$")]
Days = Annotated[int, Field(ge=1, le=3650)]


class ApiSize(SettingsPart):
    """One instance of the API, and how many there may be; `cpu` is whole cores."""

    cpu: Literal[1, 2, 4]
    memory_gib: int = Field(ge=1, le=16)
    # Below SERVING_MAX_CONCURRENCY: Cloud Run starts an instance before requests are refused.
    concurrency: int = Field(ge=1, le=255)
    min_instances: int = Field(ge=0, le=100)
    max_instances: int = Field(ge=1, le=1000)
    cpu_always: bool

    @model_validator(mode="after")
    def _ordered(self) -> ApiSize:
        if self.min_instances > self.max_instances:
            raise ValueError("min_instances is more than max_instances")
        return self


class TrackingSize(SettingsPart):
    """The MLflow server and its database."""

    cpu: Literal[1, 2, 4]
    memory_gib: int = Field(ge=1, le=16)
    min_instances: int = Field(ge=0, le=1)
    database_tier: str = Field(pattern=r"^db-(f1-micro|g1-small|custom-\d+-\d+)$")


class Memorystore(SettingsPart):
    """A Redis of Google's, over TLS and with a password."""

    kind: Literal["memorystore"]
    tier: Literal["BASIC", "STANDARD_HA"]
    size_gb: int = Field(ge=1, le=300)


class ExternalRedis(SettingsPart):
    """A Redis somewhere else; its address is Pulumi's secret `redis_url`."""

    kind: Literal["external"]


class JobSize(SettingsPart):
    """What one job has to itself."""

    cpu: Literal[1, 2, 4, 8]
    memory_gib: int = Field(ge=1, le=32)
    timeout_minutes: int = Field(ge=1, le=24 * 60)


class Schedules(SettingsPart):
    """When each job runs, as cron in UTC; None: only by hand."""

    refresh: Cron | None
    materialize: Cron | None
    train: Cron | None
    audit: Cron | None
    monitor: Cron | None


class Retention(SettingsPart):
    """How long the buckets keep what."""

    data_days: Days
    logs_days: Days
    old_versions_days: Days


class MonthlyBudget(SettingsPart):
    """Above which the billing account's owners get a mail."""

    billing_account: str = Field(pattern=r"^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$")
    usd: int = Field(ge=1)


class Release(SettingsPart):
    """How requests are shared between two revisions of the API.

    Attributes
    ----------
    stable
        The revision that gets what `share` leaves.
    share
        Percent of the requests that go to the newest revision.
    """

    stable: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    share: int = Field(ge=0, le=100)


def recipe_name(recipe: str) -> str:
    """Return a recipe's name as Cloud Run takes it."""
    return PurePosixPath(recipe).stem.lower().replace("_", "-")


class Settings(SettingsPart):
    """One stack."""

    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")
    region: Region = Field(strict=False)
    location: str
    recipes: list[str] = Field(min_length=1)
    serve: bool
    callers: list[Member]
    api: ApiSize
    serving: ServingOptions
    tracking: TrackingSize
    online_store: Annotated[Memorystore | ExternalRedis, Field(discriminator="kind")]
    jobs: JobSize
    schedules: Schedules
    retention: Retention
    budget: MonthlyBudget | None
    alert_email: str = Field(pattern=r"^[^\s@]+@[^\s@]+\.[^\s@]+$")
    releases: dict[str, Release]

    @model_validator(mode="after")
    def _location_holds_region(self) -> Settings:
        around = {"US": "us-", "EU": "europe-"}.get(self.location, self.location)
        if not self.region.startswith(around):
            raise ValueError(
                f"location {self.location!r} does not hold region {self.region}: write US, EU or "
                f"{self.region}"
            )
        return self

    @model_validator(mode="after")
    def _releases_are_of_recipes(self) -> Settings:
        names = [recipe_name(recipe) for recipe in self.recipes]
        unknown = [name for name in self.releases if name not in names]
        if unknown:
            raise ValueError(
                f"releases.{unknown[0]}: not one of the recipes, which are {', '.join(names)}"
            )
        return self


def project_root() -> Path:
    """Return the folder of the ML project: Pulumi runs the program in deploy/, which it holds."""
    return Path.cwd().parent


def read_settings(path: Path, name: str) -> Settings:
    """Return the settings in Pulumi's file of a stack.

    Parameters
    ----------
    name
        Of Pulumi's project, which its own keys begin with.

    Raises
    ------
    SettingsError
        Naming the file, the line and the key of everything that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as err:
        raise SettingsError(f"{path}: cannot be read: {err.strerror}") from err
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        raise SettingsError(f"{path.name}:{line}: not YAML: {err.problem}") from err
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise SettingsError(f"{path.name}:1: config: missing")
    try:
        return Settings.model_validate(_own(config, name))
    except ValidationError as err:
        problems = [_problem(path, text, name, error) for error in err.errors()]
        raise SettingsError("\n".join(problems)) from None


def _own(config: dict[str, object], name: str) -> dict[str, object]:
    """Return the values by field: `gcp:project` and `gcp:region` are the provider's own keys."""
    found: dict[str, object] = {}
    for key, value in config.items():
        space, _, field = str(key).partition(":")
        if key in {"gcp:project", "gcp:region"} or (space == name and field not in _SECRET_KEYS):
            found[field] = value
    return found


def _problem(path: Path, text: str, name: str, error: ErrorDetails) -> str:
    # A discriminated union names the variant too; the file does not.
    keys = [str(key) for key in error["loc"] if key not in {"memorystore", "external"}]
    message = error["msg"]
    if error["type"] == "extra_forbidden":
        message = f"no such key{_near(keys[-1], _known(keys[:-1]))}"
    elif error["type"] == "enum":
        message = f"no region: {error['input']}{_near(str(error['input']), list(Region))}"
    elif error["type"] == "missing":
        message = "missing"
    message = message.removeprefix("Value error, ")
    shown = ".".join(keys) or "config"
    space = "gcp" if shown in {"project", "region"} else name
    line = _line(text, keys)
    return f"{path.name}:{line}: {space}:{shown}: {message[0].lower()}{message[1:]}"


def _known(keys: Sequence[str]) -> list[str]:
    """Return the keys of the part that these keys lead to."""
    model: type[BaseModel] = Settings
    for key in keys:
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _near(wrong: str, known: Sequence[str]) -> str:
    near = get_close_matches(wrong, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _line(text: str, keys: list[str]) -> int:
    """Return the line of the innermost key that the file has."""
    node = yaml.compose(text)
    line = 1
    for depth, wanted in enumerate(["config", *keys]):
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == wanted or (depth == 1 and key.value.partition(":")[2] == wanted):
                node, line = value, key.start_mark.line + 1
                break
        else:
            break
    return line
