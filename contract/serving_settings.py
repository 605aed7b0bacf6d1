"""How the server runs, from environment variables; `docs/serving.md` lists them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from contract.serving_errors import ConfigurationError

_SHORTEST_KEY = 16
_COUNTS = range(1, 2**31)


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many may run at once.

    Attributes
    ----------
    connections
        How many may be open at once.
    buffered_bytes
        How much memory bodies that wait and answers that nobody reads may take together.
    """

    body_bytes: int = 1 << 20
    rows: int = 1_000
    concurrency: int = 256
    seconds: float = 2.0
    connections: int = 1_000
    buffered_bytes: int = 64 << 20


@dataclass(frozen=True)
class LogSettings:
    """What is kept of the answers, for `runner collect`.

    Attributes
    ----------
    share
        The share of requests whose rows are logged; 0: none, and nothing is connected.
    max_bytes
        How much memory the log may take in Redis until it is collected; beyond, its oldest rows go.
    """

    share: float = 1.0
    max_bytes: int = 64 << 20


@dataclass(frozen=True)
class ShadowSettings:
    """A model that answers beside the champion, only for the log.

    Attributes
    ----------
    model_uri
        The model; "" = none.
    share
        The share of the event loop's time that it may take.
    """

    model_uri: str = ""
    share: float = 0.2


@dataclass(frozen=True)
class ServingSettings:
    """Everything the server reads from its environment.

    Attributes
    ----------
    redis_seconds
        How long the online store may take before a request is answered with 503.
    event_keys
        The keys of clients that send events. Without any, events are refused if there are API keys,
        and taken from this machine alone if there are none.
    reload_seconds
        How often the registry is asked for another champion; 0 = never.
    ready_needs_features
        Whether `/ready` answers 503 while most features of recent rows are missing or expired.
    drain_seconds
        How long after SIGTERM new requests are still answered, so that load balancers notice.
    """

    model_uri: str
    tracking_uri: str
    redis_url: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    event_keys: tuple[str, ...] = field(default=(), repr=False)
    limits: Limits = Limits()
    log: LogSettings = LogSettings()
    shadow: ShadowSettings = ShadowSettings()
    redis_seconds: float = 0.08
    reload_seconds: float = 5.0
    drain_seconds: float = 1.0
    ready_needs_features: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ServingSettings:
        """Return the settings in `env`.

        Raises
        ------
        ConfigurationError
            If a variable is missing or not of its type, or the bind address is not safe.
        """
        settings = cls(
            model_uri=_required(env, "SERVING_MODEL", "models:/<name>@champion"),
            tracking_uri=env.get("MLFLOW_TRACKING_URI", ""),
            redis_url=_required(env, "REDIS_URL", "redis://127.0.0.1:6379/0"),
            host=env.get("SERVING_HOST") or cls.host,
            port=serving_port(env),
            api_keys=_api_keys(env, "SERVING_API_KEYS"),
            event_keys=_api_keys(env, "SERVING_EVENT_KEYS"),
            limits=Limits(
                body_bytes=_whole(env, "SERVING_MAX_BODY_BYTES", Limits.body_bytes),
                rows=_whole(env, "SERVING_MAX_ROWS", Limits.rows),
                concurrency=_whole(env, "SERVING_MAX_CONCURRENCY", Limits.concurrency),
                seconds=_seconds(env, "SERVING_TIMEOUT_SECONDS", Limits.seconds),
                connections=_whole(env, "SERVING_MAX_CONNECTIONS", Limits.connections),
                buffered_bytes=_whole(env, "SERVING_MAX_BUFFERED_BYTES", Limits.buffered_bytes),
            ),
            log=LogSettings(
                share=_share(env, "SERVING_LOG_SHARE", LogSettings.share),
                max_bytes=_whole(env, "SERVING_LOG_MAX_BYTES", LogSettings.max_bytes),
            ),
            shadow=ShadowSettings(
                model_uri=env.get("SERVING_SHADOW", ""),
                share=_share(env, "SERVING_SHADOW_SHARE", ShadowSettings.share),
            ),
            redis_seconds=_seconds(env, "SERVING_REDIS_TIMEOUT_SECONDS", cls.redis_seconds),
            reload_seconds=_seconds(
                env, "SERVING_RELOAD_SECONDS", cls.reload_seconds, or_zero=True
            ),
            drain_seconds=_seconds(env, "SERVING_DRAIN_SECONDS", cls.drain_seconds, or_zero=True),
            ready_needs_features=_flag(env, "SERVING_READY_NEEDS_FEATURES"),
        )
        if settings.shadow.model_uri and not settings.log.share:
            raise ConfigurationError(
                "SERVING_SHADOW needs the serving log, and SERVING_LOG_SHARE=0 turns it off",
                hint="unset one of them: a shadow's answers go nowhere else",
            )
        if settings.shadow.model_uri and not settings.shadow.share:
            raise ConfigurationError(
                "SERVING_SHADOW_SHARE=0 leaves the shadow no time", hint="unset SERVING_SHADOW"
            )
        if not settings.api_keys and not is_loopback(settings.host):
            raise ConfigurationError(
                f"refusing to listen on {settings.host} without an API key",
                hint="set SERVING_API_KEYS to one or more keys, or listen on 127.0.0.1",
            )
        return settings


@lru_cache(maxsize=64)  # asked for every request
def is_loopback(host: str) -> bool:
    """Return whether `host` can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _required(env: Mapping[str, str], name: str, example: str) -> str:
    if not env.get(name):
        raise ConfigurationError(f"{name} is not set", hint=f"set it, such as {name}={example}")
    return env[name]


def serving_port(env: Mapping[str, str]) -> int:
    """Return the port that the environment names, or the usual one.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    return _whole(env, "SERVING_PORT", ServingSettings.port, range(65_536))


def _whole(env: Mapping[str, str], name: str, default: int, allowed: range = _COUNTS) -> int:
    text = env.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value not in allowed:
        raise ConfigurationError(
            f"{name}={text!r} is not a whole number from {allowed[0]} to {allowed[-1]}",
            hint=f"unset it to use {default}",
        )
    return value


def _seconds(env: Mapping[str, str], name: str, default: float, *, or_zero: bool = False) -> float:
    value = _number(env, name, default)
    if not 0 <= value < float("inf") or (value == 0 and not or_zero):
        wanted = "of zero or more" if or_zero else "above zero"
        raise ConfigurationError(
            f"{name}={env[name]!r} is not a number {wanted}", hint=f"unset it to use {default}"
        )
    return value


def _share(env: Mapping[str, str], name: str, default: float) -> float:
    value = _number(env, name, default)
    if not 0 <= value <= 1:
        raise ConfigurationError(
            f"{name}={env[name]!r} is not a number from 0 to 1", hint=f"unset it to use {default:g}"
        )
    return value


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    """Return the variable, NaN for what is no number, or the default where it is not set."""
    text = env.get(name)
    try:
        return float(text) if text else default
    except ValueError:
        return float("nan")


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").lower()
    if text not in {"", "true", "false"}:
        raise ConfigurationError(
            f"{name}={text!r} is neither true nor false", hint="unset it to use false"
        )
    return text == "true"


def _api_keys(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in env.get(name, "").split(",") if key.strip())
    if any(len(key) < _SHORTEST_KEY or not key.isascii() for key in keys):
        raise ConfigurationError(
            f"{name}: a key needs {_SHORTEST_KEY} or more ASCII characters",
            hint='make one with python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    return keys
