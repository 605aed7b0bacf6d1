"""REDIS_URL in Feast's notation, read back by Feast's own parser."""

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore

from runner.online.online_store import EnvRedisOnlineStoreConfig, feast_connection_string


@pytest.mark.parametrize(
    ("url", "address", "options"),
    [
        ("redis://h", {"host": "h", "port": "6379"}, {}),
        ("redis://h:7/3", {"host": "h", "port": "7"}, {"db": 3}),
        ("redis://:123@h:7", {"host": "h", "port": "7"}, {"password": "123"}),
        (
            "rediss://me:p%40ss%20%22w%5C@h:7/0",
            {"host": "h", "port": "7"},
            {"username": "me", "password": 'p@ss "w\\', "ssl": True},
        ),
        (
            "redis://h:7/0?socket_timeout=2",
            {"host": "h", "port": "7"},
            {"socket_timeout": 2},
        ),
    ],
)
def test_feast_reads_back_what_the_url_says(
    url: str, address: dict[str, str], options: dict[str, object]
) -> None:
    nodes, found = RedisOnlineStore._parse_connection_string(feast_connection_string(url))
    assert nodes == [address]
    assert found == options


@pytest.mark.parametrize("url", ["http://h", "redis://", "redis://:a%2Cb@h"])
def test_what_feast_cannot_carry_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="REDIS_URL"):
        feast_connection_string(url)


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EnvRedisOnlineStoreConfig().connection_string == "localhost:6379"
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:7/1")
    assert EnvRedisOnlineStoreConfig().connection_string == "elsewhere:7,db=1"
    assert EnvRedisOnlineStoreConfig(connection_string="x:1").connection_string == "x:1"
