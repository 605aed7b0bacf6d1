"""Configuration fails early, in words that say what to set."""

from __future__ import annotations

import pytest

from contract.serving_errors import ConfigurationError
from contract.serving_settings import ServingSettings

BASE = {"SERVING_MODEL": "models:/m@champion", "REDIS_URL": "redis://127.0.0.1:6379/0"}
KEY = "0123456789abcdef"


def test_the_defaults_are_loopback_without_keys() -> None:
    settings = ServingSettings.from_env(BASE)
    assert (settings.host, settings.port, settings.api_keys) == ("127.0.0.1", 8000, ())
    assert settings.limits.rows == 1_000


def test_every_variable_is_read() -> None:
    settings = ServingSettings.from_env(
        BASE
        | {
            "MLFLOW_TRACKING_URI": "sqlite:////m.db",
            "SERVING_HOST": "::1",
            "SERVING_PORT": "9000",
            "SERVING_API_KEYS": f"{KEY}, {KEY}2,",
            "SERVING_MAX_BODY_BYTES": "10",
            "SERVING_MAX_ROWS": "2",
            "SERVING_MAX_CONCURRENCY": "3",
            "SERVING_MAX_CONNECTIONS": "4",
            "SERVING_MAX_BUFFERED_BYTES": "5",
            "SERVING_TIMEOUT_SECONDS": "0.5",
            "SERVING_REDIS_TIMEOUT_SECONDS": "0.02",
            "SERVING_RELOAD_SECONDS": "0",
            "SERVING_DRAIN_SECONDS": "7",
            "SERVING_LOG_SHARE": "0.1",
            "SERVING_LOG_MAX_BYTES": "6",
        }
    )
    assert settings.tracking_uri == "sqlite:////m.db"
    assert (settings.host, settings.port) == ("::1", 9000)
    assert settings.api_keys == (KEY, KEY + "2")
    limits = settings.limits
    assert (limits.body_bytes, limits.rows, limits.concurrency, limits.seconds) == (10, 2, 3, 0.5)
    assert (limits.connections, limits.buffered_bytes) == (4, 5)
    assert (settings.redis_seconds, settings.reload_seconds) == (0.02, 0)
    assert settings.drain_seconds == 7
    assert (settings.log.share, settings.log.max_bytes) == (0.1, 6)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"SERVING_MODEL": ""}, "SERVING_MODEL is not set"),
        ({"REDIS_URL": ""}, "REDIS_URL is not set"),
        *(
            ({"SERVING_LOG_SHARE": share}, f"SERVING_LOG_SHARE='{share}' is not a number from 0 to")
            for share in ("on", "-0.1", "1.1", "nan")
        ),
        *(
            ({"SERVING_PORT": port}, f"SERVING_PORT='{port}' is not a whole number from 0 to 65535")
            for port in ("http", "-1", "80.9", "70000")
        ),
        *(
            ({f"SERVING_MAX_{what}": text}, f"SERVING_MAX_{what}='{text}' is not a whole number")
            for what in ("ROWS", "CONCURRENCY", "CONNECTIONS", "BODY_BYTES", "BUFFERED_BYTES")
            for text in ("nan", "0", "1.5", "-1")
        ),
        *(
            ({f"SERVING_{what}": text}, f"SERVING_{what}='{text}' is not a number above zero")
            for what in ("TIMEOUT_SECONDS", "REDIS_TIMEOUT_SECONDS")
            for text in ("nan", "inf", "0", "-1", "soon")
        ),
        ({"SERVING_SHADOW": "b", "SERVING_LOG_SHARE": "0"}, "SERVING_SHADOW needs the serving log"),
        ({"SERVING_SHADOW": "b", "SERVING_SHADOW_SHARE": "0"}, "leaves the shadow no time"),
        ({"SERVING_DRAIN_SECONDS": "-1"}, "SERVING_DRAIN_SECONDS='-1' is not a number of zero or"),
        ({"SERVING_HOST": "0.0.0.0"}, "refusing to listen on 0.0.0.0 without an API key"),
        ({"SERVING_HOST": "::"}, "refusing to listen on :: without an API key"),
        ({"SERVING_HOST": "shop.example"}, "refusing to listen on shop.example"),
        ({"SERVING_API_KEYS": "short"}, "a key needs 16 or more"),
        ({"SERVING_API_KEYS": "é" * 16}, "a key needs 16 or more ASCII"),
    ],
)
def test_a_wrong_variable_is_named_with_a_hint(env: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        ServingSettings.from_env(BASE | env)
    assert caught.value.hint


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "127.8.8.8"])
def test_any_loopback_address_needs_no_key(host: str) -> None:
    assert ServingSettings.from_env(BASE | {"SERVING_HOST": host}).host == host


def test_any_address_may_be_listened_on_with_a_key() -> None:
    settings = ServingSettings.from_env(BASE | {"SERVING_HOST": "::", "SERVING_API_KEYS": KEY})
    assert settings.host == "::"
    assert KEY not in repr(settings)
