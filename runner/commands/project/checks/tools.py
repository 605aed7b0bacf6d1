"""Checks of Redis and MLflow, alike on every target; see `doctor.py`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from contract.bundle import Bundle
from runner.errors import RunnerError
from runner.project.manifest import load_manifest
from runner.recipes.recipe import load_recipe
from runner.recipes.recipe_files import all_recipes
from runner.records.run_facts import CHAMPION, require_run, with_alias
from runner.records.run_reader import open_reader
from runner.servers import redis_login, redis_server
from runner.settings import Settings
from runner.wording import counted

_LEAST_REDIS = 6


def redis(settings: Settings) -> str:
    """See that the online store answers, lets us log in, is new enough and of the right kind."""
    from runner.online.connection import connect
    from runner.online.online_config import load_online_config

    address = settings.redis
    where = address.where
    version = redis_server.check(address)
    if version is None:
        hint = "run `runner up`, or set REDIS_URL to a server that runs"
        if settings.target == "cloud":
            hint = "correct REDIS_URL, or let the network through to it"
        raise RunnerError(f"nothing listens at {where}", hint=hint)
    number = version.rpartition(" ")[2].split(".")[0]
    if number.isdigit() and int(number) < _LEAST_REDIS:
        raise RunnerError(
            f"{version} at {where} is too old", hint=f"use Redis {_LEAST_REDIS} or newer, or Valkey"
        )
    with connect(settings, load_online_config(settings)) as connection:
        connection.client.ping()
    return f"{version} at {where}"


def redis_memory(settings: Settings) -> str:
    """See that it keeps what it is given."""
    told = redis_login.info(settings.redis, "memory")
    limit, policy = int(told.get("maxmemory", 0)), told.get("maxmemory_policy", "noeviction")
    if not told:
        return "not known: the account may not ask"
    if limit == 0:
        return "no limit"
    if policy != "noeviction":
        raise RunnerError(
            f"maxmemory-policy {policy}: with more than {limit / 2**20:,.0f} MiB features vanish "
            "without an error",
            hint="set maxmemory-policy noeviction: then `runner materialize` fails instead",
        )
    used = int(told["used_memory"])
    if used > 0.9 * limit:
        raise RunnerError(
            f"{used / 2**20:,.0f} of {limit / 2**20:,.0f} MiB are used", hint="raise maxmemory"
        )
    return f"{used / 2**20:,.0f} of {limit / 2**20:,.0f} MiB used, nothing is evicted"


def redis_encryption(settings: Settings) -> str:
    """See that password and features are encrypted on their way."""
    address = settings.redis
    if not address.password:
        raise RunnerError(
            "REDIS_URL has no password",
            hint="let the server ask for one: REDIS_URL=rediss://:<password>@<host>:<port>/0",
        )
    if address.tls is None and not _is_loopback(address.host):
        raise RunnerError(
            f"REDIS_URL has no TLS: {address.host} is sent the password as it is",
            hint="write rediss:// and, for an authority of its own, ?ssl_ca_certs=/path/to/ca.pem",
        )
    if address.tls is not None and address.tls.cert_reqs != "required":
        raise RunnerError(
            f"REDIS_URL: ssl_cert_reqs={address.tls.cert_reqs} takes the word of whoever answers "
            f"as {address.host}",
            hint="remove it, and for an authority of its own add ssl_ca_certs=/path/to/ca.pem",
        )
    return "a password, on this machine" if address.tls is None else "a password, and TLS"


def mlflow(settings: Settings) -> str:
    """See that runs and registered models can be read."""
    uri = settings.mlflow_tracking_uri
    if _is_new(uri):
        return f"{uri}: not there yet; the first `runner train` makes it"
    return f"{uri}: {counted(len(open_reader(settings).models()), 'registered model')}"


def champions(settings: Settings) -> str:
    """See that the champions' files are those registered, and that their features are still made.

    Where dbt has not compiled the project for this target, nobody knows its features.
    """
    if _is_new(settings.mlflow_tracking_uri):
        return "none yet"
    from runner.packaging.served_version import load_version

    reader = open_reader(settings)
    verified = []
    for name in sorted(
        {load_recipe(path).registered_model_name for path in all_recipes(settings.root)}
    ):
        if (champion := with_alias(reader.versions(name), CHAMPION)) is not None:
            require_run(reader, champion)
            model, number = load_version(settings, f"models:/{name}@{CHAMPION}")
            verified.append(f"{name} version {number}")
            _require_marts(settings, verified[-1], model.bundle)
    return f"intact: {', '.join(verified)}" if verified else "none yet"


def _require_marts(settings: Settings, champion: str, bundle: Bundle) -> None:
    """Raise RunnerError if the champion's features are no longer in dbt or the warehouse."""
    from runner.packaging.served_version import require_features
    from runner.warehouse.open_mart import open_mart

    if not settings.manifest_path.is_file():
        return
    marts = load_manifest(settings.manifest_path).marts
    adapter = "bigquery" if settings.target == "cloud" else "postgres"
    if any(mart.adapter_type != adapter for mart in marts.values()):
        return
    require_features(bundle, marts, champion)
    for view in sorted({feature.view for feature in bundle.features}):
        try:
            with open_mart(settings, marts[view]):
                pass
        except RunnerError as err:
            raise RunnerError(f"{champion}: {err.message}", hint=err.hint) from err


def _is_new(uri: str) -> bool:
    """Return whether MLflow would make its database now, which a check must not."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
