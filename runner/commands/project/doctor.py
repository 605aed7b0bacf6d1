"""`runner doctor`: whether all that a target needs is there.

A failing check does not stop the others; only those that would report the same cause are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from runner.commands.project.checks import (
    bigquery,
    log_backlog,
    machine,
    online_features,
    postgres,
    tools,
)
from runner.errors import RunnerError
from runner.failures import explain
from runner.settings import Settings, missing_variables, read_env_file


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    message
        What is there; what is wrong where `is_ok` is False.
    hint
        What to do about it; empty if nothing.
    """

    check: str
    is_ok: bool
    message: str
    hint: str = ""


class Check(NamedTuple):
    """A check: `look` returns what is there, or raises what is wrong.

    Attributes
    ----------
    needs
        Variables without which there is nowhere to look.
    after
        Earlier checks without which there is nothing to look at; a target may lack some of them.
    """

    name: str
    look: Callable[[Settings], str]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


_POSTGRES = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")

_BEGIN = [
    Check("variables", machine.variables),
    Check("packages", machine.packages),
    Check("profiles", machine.profiles),
    Check("dbt models", machine.dbt_models),
    Check("disk", machine.disk),
]
_END = [
    Check("MLflow", tools.mlflow, ("MLFLOW_TRACKING_URI",)),
    Check("champions", tools.champions, after=("MLflow", "PostgreSQL", "BigQuery jobs")),
    Check("online features", online_features.online_features, after=("Redis", "MLflow")),
    Check("serving log", log_backlog.serving_log, after=("Redis",)),
    Check("events", log_backlog.events, after=("Redis",)),
    Check("serving port", machine.port),
]
_LOCAL = [
    Check("PostgreSQL", postgres.server, _POSTGRES),
    Check("time zone", postgres.time_zone, after=("PostgreSQL",)),
    Check("schemas", postgres.schemas, after=("PostgreSQL",)),
    Check("indexes", postgres.indexes, after=("PostgreSQL",)),
    Check("Redis", tools.redis, ("REDIS_URL",)),
    Check("Redis memory", tools.redis_memory, after=("Redis",)),
    Check("Feast's registry", postgres.feast_registry, after=("PostgreSQL",)),
]
_CLOUD = [
    Check("credentials", bigquery.credentials),
    Check("BigQuery", bigquery.server, ("GOOGLE_CLOUD_PROJECT",), ("credentials",)),
    Check("BigQuery jobs", bigquery.jobs, after=("BigQuery",)),
    *(
        Check(f"dataset {name}", partial(bigquery.dataset, name=name), after=("BigQuery",))
        for name in bigquery.DATASETS
    ),
    Check("Storage Read API", bigquery.storage_read, after=("BigQuery jobs",)),
    Check("Redis encryption", tools.redis_encryption, ("REDIS_URL",)),
    Check("Redis", tools.redis, ("REDIS_URL",)),
    Check("Redis memory", tools.redis_memory, after=("Redis",)),
    Check("Feast's registry", bigquery.feast_registry, ("FEAST_REGISTRY",), ("credentials",)),
]


def diagnose(settings: Settings) -> list[Finding]:
    """Return what every check of the target found, in order; never raises for what it finds.

    Parameters
    ----------
    settings
        From `read_settings`: variables may be missing.
    """
    settings.export()
    checks = [*_BEGIN, *(_CLOUD if settings.target == "cloud" else _LOCAL), *_END]
    missing, secrets = missing_variables(settings), _secrets(settings)
    findings: dict[str, Finding] = {}
    for check in checks:
        failed = [name for name in check.after if name in findings and not findings[name].is_ok]
        if failed:
            message = f"not checked: it needs {failed[0]}"
            findings[check.name] = Finding(check.name, False, message)
        else:
            findings[check.name] = _finding(check, settings, missing, secrets)
    return list(findings.values())


def _finding(
    check: Check, settings: Settings, missing: Sequence[str], secrets: Sequence[str]
) -> Finding:
    needed = [name for name in check.needs if name in missing]
    if needed:
        hint = f"set {', '.join(needed)}, then look again"
        return Finding(check.name, False, f"nowhere to look: {', '.join(needed)} not set", hint)
    try:
        message, hint, is_ok = check.look(settings), "", True
    except Exception as err:  # a check that fails must not keep the others from looking
        known = explain(err) or RunnerError(
            f"{type(err).__name__}: {err}", hint="see `runner help plan-and-doctor`"
        )
        message, hint, is_ok = known.message, known.hint, False
    for secret in secrets:
        message, hint = message.replace(secret, "***"), hint.replace(secret, "***")
    return Finding(check.name, is_ok, " ".join(message.split()), " ".join(hint.split()))


def _secrets(settings: Settings) -> list[str]:
    """Return passwords and tokens, the longest first; a profile's own are public."""
    public = read_env_file(settings.env_file)
    found: set[str] = set()
    for name, value in settings.env.items():
        if public.get(name) == value:
            continue
        if name.endswith(("PASSWORD", "TOKEN")):
            found.add(value)
        elif name.endswith(("URL", "URI")):
            try:
                parts = urlsplit(value)
                password = parts.password or ""
                found |= {value for name, value in parse_qsl(parts.query) if name == "password"}
            except ValueError:  # no address: who knows where in it the password stands
                password = value
            found |= {password, unquote(password)}
    return sorted(found - {""}, key=len, reverse=True)
