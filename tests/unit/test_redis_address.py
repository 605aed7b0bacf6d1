"""REDIS_URL, read once for the runner, Feast and serving."""

import ssl

import pytest

from contract.redis_address import RedisAddress
from contract.redis_sentinel import Sentinels
from contract.serving_errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "host", "port", "database"),
    [
        ("redis://store", "store", 6379, 0),
        ("redis://store:6380/3", "store", 6380, 3),
        ("redis://store?db=3", "store", 6379, 3),
        ("redis://store/3?db=3", "store", 6379, 3),
        ("rediss://[::1]:1/", "::1", 1, 0),
    ],
)
def test_a_url_says_host_port_and_database(url: str, host: str, port: int, database: int) -> None:
    address = RedisAddress.from_url(url)
    assert (address.host, address.port, address.database) == (host, port, database)


@pytest.mark.parametrize(
    "url",
    ["redis://me:p%40ss@store/3", "redis://store/3?username=me&password=p%40ss"],
)
def test_the_login_stands_before_the_host_or_in_the_query(url: str) -> None:
    address = RedisAddress.from_url(url)
    assert address.greeting() == [("AUTH", "me", "p@ss"), ("SELECT", "3"), ("PING",)]
    assert "p@ss" not in repr(address)
    assert "p%40ss" not in repr(address)


def test_without_a_user_the_password_is_the_default_users() -> None:
    assert RedisAddress.from_url("redis://store").greeting() == [("PING",)]
    assert RedisAddress.from_url("redis://:pw@store").greeting()[0] == ("AUTH", "default", "pw")


def test_a_socket_has_a_path_instead_of_a_host() -> None:
    address = RedisAddress.from_url("unix://:pw@/run/my%20redis.sock?db=2")
    assert (address.socket, address.where) == ("/run/my redis.sock", "/run/my redis.sock")
    assert address.client_options() == {
        "unix_socket_path": "/run/my redis.sock",
        "db": 2,
        "password": "pw",
    }


@pytest.mark.parametrize(
    ("option", "checks", "mode"),
    [
        ("", True, ssl.CERT_REQUIRED),
        ("?ssl_check_hostname=true", True, ssl.CERT_REQUIRED),
        ("?ssl_check_hostname=No", False, ssl.CERT_REQUIRED),
        ("?ssl_cert_reqs=optional", True, ssl.CERT_OPTIONAL),
        ("?ssl_cert_reqs=none", False, ssl.CERT_NONE),
    ],
)
def test_rediss_means_tls(option: str, checks: bool, mode: ssl.VerifyMode) -> None:
    tls = RedisAddress.from_url(f"rediss://store:6380{option}").tls
    assert tls is not None
    context = tls.context()
    assert (context.check_hostname, context.verify_mode) == (checks, mode)


@pytest.mark.parametrize(
    "url",
    [
        *("store:6379", "http://store", "redis:///0", "redis://s:port", "redis://s:65536"),
        *("redis://s:0", "redis://:pa#ss@s", "unix://host/s", "unix://", "valkey://s"),
    ],
)
def test_a_malformed_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL is not of the form") as caught:
        RedisAddress.from_url(url)
    assert url not in caught.value.message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://s?socket_timeout=1", "the option socket_timeout is not supported"),
        ("redis://s?ssl_ca_certs=x", "ssl_ca_certs has no meaning for redis://"),
        ("unix:///s?ssl_cert_reqs=none", "ssl_cert_reqs has no meaning for unix://"),
        ("rediss://s?ssl_password=x", "the option ssl_password is not supported"),
        ("rediss://s?ssl_cert_reqs=maybe", "ssl_cert_reqs must be"),
        ("rediss://s?ssl_check_hostname=maybe", "ssl_check_hostname is neither"),
        ("rediss://s?ssl_keyfile=x", "ssl_keyfile needs ssl_certfile"),
        ("redis://s/1?db=2", "two values for db"),
        ("redis://:a@s?password=b", "two values for password"),
        ("redis://s?db=1&db=2", "two values for db"),
        ("redis://s/x", "the database is not a number"),
        ("redis://s/1/2", "the database is not a number"),
        ("redis+sentinel://s:26379", r"not of the form redis\+sentinel://"),
        ("redis+sentinel://s:x/shop", r"not of the form redis\+sentinel://"),
        ("redis+sentinel://one,,two/shop", r"not of the form redis\+sentinel://"),
        ("redis+sentinel:///shop", r"not of the form redis\+sentinel://"),
        ("redis://s?sentinel_password=x", "the option sentinel_password is not supported"),
        ("redis+sentinel://s/shop?sentinel_db=1", "the option sentinel_db is not supported"),
        ("redis+sentinel://s/shop?sentinel_ssl=maybe", "sentinel_ssl is neither true nor false"),
        (
            "redis+sentinel://s/shop?sentinel_ssl_ca_certs=x",
            "sentinel_ssl_ca_certs has no meaning without sentinel_ssl=true",
        ),
        (
            "redis+sentinel://s/shop?sentinel_ssl=true&sentinel_ssl_keyfile=x",
            "sentinel_ssl_keyfile needs sentinel_ssl_certfile",
        ),
    ],
)
def test_what_is_not_carried_out_is_refused_by_name(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RedisAddress.from_url(url)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_cannot_be_read_is_named(option: str) -> None:
    tls = RedisAddress.from_url(f"rediss://store?{option}=/no/file.pem").tls
    assert tls is not None
    with pytest.raises(ConfigurationError, match=rf"{option}=/no/file\.pem .*cannot be read"):
        tls.context()


@pytest.mark.parametrize(
    ("url", "hosts", "rest"),
    [
        ("redis+sentinel://one/shop", (("one", 26379),), (0, None, None)),
        (
            "redis+sentinel://u:p%2C@one:1,[::1]:2,three/shop/3",
            (("one", 1), ("::1", 2), ("three", 26379)),
            (3, "u", "p,"),
        ),
        ("rediss+sentinel://:p@one/shop?db=2", (("one", 26379),), (2, None, "p")),
    ],
)
def test_sentinels_are_told_from_the_server_that_they_watch(url, hosts, rest):
    address = RedisAddress.from_url(url)
    assert address.sentinels == Sentinels(hosts, "shop")
    assert (address.database, address.username, address.password) == rest
    assert (address.tls is not None) == url.startswith("rediss")


def test_sentinels_have_a_login_and_tls_of_their_own():
    address = RedisAddress.from_url(
        "rediss+sentinel://:p@one/shop?sentinel_username=clerk&db=2&sentinel_password=a%26b%2B"
        "&sentinel_ssl=true&sentinel_ssl_ca_certs=/of/sentinels.pem&ssl_ca_certs=/of/master.pem"
    )
    sentinels = address.sentinels
    assert (sentinels.username, sentinels.password) == ("clerk", "a&b+")
    assert sentinels.tls.ca_certs == "/of/sentinels.pem"
    assert (address.password, address.database, address.tls.ca_certs) == ("p", 2, "/of/master.pem")
    assert "a&b+" not in repr(address)
