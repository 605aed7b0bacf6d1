"""REDIS_URL as Feast's online store hears it."""

import pytest

from contract.serving_errors import ConfigurationError
from runner.online.online_store import EnvRedisOnlineStore, EnvRedisOnlineStoreConfig


@pytest.mark.parametrize(
    ("url", "host", "options"),
    [
        ("redis://h", "h", {}),
        ("redis://[::1]/3", "::1", {"db": 3}),
        ("redis://:1,2@h?db=3", "h", {"password": "1,2", "db": 3}),
        ("unix:///run/redis.sock", "localhost", {"unix_socket_path": "/run/redis.sock"}),
    ],
)
def test_feast_is_given_what_the_url_says(url: str, host: str, options: dict[str, object]) -> None:
    nodes, found = EnvRedisOnlineStore._parse_connection_string(url)
    assert nodes == [{"host": host, "port": 6379}]
    assert found == options


def test_feast_is_given_every_setting_of_tls() -> None:
    url = "rediss://h?ssl_ca_certs=ca&ssl_certfile=c&ssl_keyfile=k&ssl_cert_reqs=optional"
    assert EnvRedisOnlineStore._parse_connection_string(url)[1] == {
        "ssl": True,
        "ssl_ca_certs": "ca",
        "ssl_certfile": "c",
        "ssl_keyfile": "k",
        "ssl_cert_reqs": "optional",
        "ssl_check_hostname": True,
    }


def test_feast_refuses_the_options_that_all_refuse() -> None:
    with pytest.raises(ConfigurationError, match="option socket_timeout is not supported"):
        EnvRedisOnlineStore._parse_connection_string("redis://h?socket_timeout=2")


def test_a_connection_string_in_feasts_own_notation_is_feasts() -> None:
    assert EnvRedisOnlineStore._parse_connection_string("h:7,db=1,ssl=true") == (
        [{"host": "h", "port": "7"}],
        {"db": 1, "ssl": True},
    )


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EnvRedisOnlineStoreConfig().connection_string == "localhost:6379"
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:7/1")
    assert EnvRedisOnlineStoreConfig().connection_string == "redis://elsewhere:7/1"
    assert EnvRedisOnlineStoreConfig(connection_string="x:1").connection_string == "x:1"
