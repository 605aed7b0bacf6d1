"""One REDIS_URL opens the same database in the runner, in Feast's online store and in serving."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest
import redis

from contract.redis_address import RedisAddress
from contract.serving_errors import OnlineStoreUnavailableError
from runner.errors import RunnerError
from runner.online.connection import connect
from runner.online.online_config import OnlineConfig, load_online_config
from runner.online.online_store import EnvRedisOnlineStore, EnvRedisOnlineStoreConfig
from runner.servers.redis_server import check, embedded_binary
from runner.settings import Settings
from serving.features.online_client import OnlineStoreClient
from serving.features.redis_client import RedisClient
from tests.emulators.certificates import make_certificate
from tests.emulators.processes import running
from tests.emulators.redis_servers import (
    PASSWORD,
    RedisServers,
    WatchedRedis,
    guarded_sentinel,
    one_redis,
    redis_cluster,
    watched_redis,
)

pytestmark = pytest.mark.servers

_KEY, _FIELD = b"readers", b"database"


def _read(url: str, *, is_cluster: bool = False) -> list[str | None]:
    """Return what each of the three readers finds."""
    config = OnlineConfig("shop", None, is_cluster=is_cluster)
    with connect(Settings("local", Path(), {"REDIS_URL": url}), config) as connection:
        found = [connection.client.hget(_KEY, _FIELD)]
    kind = "redis_cluster" if is_cluster else "redis"
    feast = EnvRedisOnlineStore()._get_client(
        EnvRedisOnlineStoreConfig(connection_string=url, redis_type=kind)
    )
    found.append(feast.hget(_KEY, _FIELD))
    found.append(asyncio.run(_serving_reads(url)))
    return [None if value is None else value.decode() for value in found]


async def _serving_reads(url: str) -> bytes | None:
    client = OnlineStoreClient(RedisAddress.from_url(url), 5.0)
    await client.start()
    ((value,),) = await client.read([hiredis.pack_command((b"HMGET", _KEY, _FIELD))])
    await client.stop()
    return value


@pytest.fixture(name="databases", scope="module")
def _databases(redis_server: RedisAddress) -> str:
    """The URL, without a database, of a server that holds its number in three of them."""
    server = f"redis://127.0.0.1:{redis_server.port}"
    for database in (0, 2, 5):
        with redis.Redis(port=redis_server.port, db=database) as client:
            client.hset(_KEY, _FIELD, str(database))
    return server


@pytest.mark.parametrize(
    ("suffix", "database"), [("", "0"), ("/2", "2"), ("?db=2", "2"), ("/?db=5", "5")]
)
def test_a_database_is_the_same_to_all(databases: str, suffix: str, database: str) -> None:
    assert _read(databases + suffix) == [database] * 3


def test_a_login_is_the_same_to_all(databases: str, redis_server: RedisAddress) -> None:
    with redis.Redis(port=redis_server.port) as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">p,w", "~*", "+@all", "&*")
    assert _read(f"{databases}?username=clerk&password=p,w&db=5") == ["5"] * 3


def test_a_socket_is_the_same_to_all(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    command = [embedded_binary(), "--port", "0", "--unixsocket", path, "--save", ""]
    with redis.Redis(unix_socket_path=str(path), db=3) as client:
        with running(command, tmp_path, path.exists):
            client.hset(_KEY, _FIELD, "3")
            assert _read(f"unix://{path}?db=3") == ["3"] * 3
        assert check(RedisAddress.from_url(f"unix://{path}")) is None


def test_a_cluster_behind_tls_is_the_same_to_all(tmp_path: Path) -> None:
    with redis_cluster(tmp_path, make_certificate(tmp_path / "tls")) as cluster:
        with cluster.client() as client:
            client.hset(_KEY, _FIELD, "0")
        assert [_read(cluster.url_of(port), is_cluster=True) for port in cluster.ports] == [
            ["0"] * 3
        ] * 3


def test_a_database_of_a_cluster_is_refused_before_anything_is_opened() -> None:
    settings = Settings("local", Path(), {"REDIS_URL": "redis://127.0.0.1:1/2"})
    opened = connect(settings, OnlineConfig("shop", None, is_cluster=True))
    with pytest.raises(RunnerError, match="neither databases nor sockets"), opened:
        pass


@pytest.fixture(name="mutual", scope="module")
def _mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    folder = tmp_path_factory.mktemp("mutual")
    with one_redis(folder, make_certificate(folder / "tls"), mutual=True) as servers:
        with servers.client() as client:
            client.hset(_KEY, _FIELD, "0")
        yield servers


@pytest.mark.parametrize("unverified", [False, True])
def test_a_client_certificate_is_shown_by_all(mutual: RedisServers, unverified: bool) -> None:
    url = mutual.url
    if unverified:
        before, _, after = url.partition(f"ssl_ca_certs={mutual.certificate.authority}&")
        url = f"{before}ssl_cert_reqs=none&{after}"
    assert _read(url) == ["0"] * 3


def test_a_missing_client_certificate_is_named(mutual: RedisServers) -> None:
    url = mutual.url.partition("&")[0]
    with pytest.raises(RunnerError) as refused:
        check(RedisAddress.from_url(url))
    assert "ssl_certfile" in refused.value.hint
    with pytest.raises(OnlineStoreUnavailableError) as closed:
        asyncio.run(_connect(url))
    assert "ssl_certfile" in closed.value.hint


async def _connect(url: str) -> None:
    await RedisClient(RedisAddress.from_url(url), 5.0, lambda _client, _slots: None)._connect()


def test_a_renewed_certificate_is_trusted_without_a_restart(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    with one_redis(tmp_path, certificate) as servers, servers.client() as operator:
        operator.ping()
        asyncio.run(_reads_on_after(servers, operator))


async def _reads_on_after(servers: RedisServers, operator: redis.Redis) -> None:
    address = RedisAddress.from_url(servers.url)
    client = RedisClient(address, 5.0, lambda _client, _slots: None)
    await client.start()
    assert await client.ping()
    renewed = make_certificate(servers.certificate.certificate.parent)  # by another authority
    names = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    files = (renewed.certificate, renewed.key, renewed.authority)
    pairs = [str(part) for pair in zip(names, files, strict=True) for part in pair]
    operator.execute_command("CONFIG SET", *pairs)
    operator.client_kill_filter(_type="normal", skipme=True)
    async with asyncio.timeout(30):
        while not await client.ping():
            await asyncio.sleep(0.01)
    await client.stop()


def test_behind_sentinels_the_master_is_the_same_to_all_and_after_a_failover_too(
    tmp_path: Path,
) -> None:
    with watched_redis(tmp_path) as watched:
        _write(watched.url, "before")
        assert _read(watched.url) == ["before"] * 3
        asyncio.run(_reads_on_after_a_failover(watched))
        _write(watched.url, "after")
        assert _read(watched.url) == ["after"] * 3
        with pytest.raises(RunnerError, match=r"no Sentinel says where the master x is .*no such"):
            _read(watched.url.replace("/shop", "/x"))
    with pytest.raises(RunnerError, match=r"no Sentinel says .*Connection refused"):
        _read(watched.url)


def test_behind_sentinels_with_a_login_and_tls_the_master_is_the_same_to_all(
    tmp_path: Path,
) -> None:
    with guarded_sentinel(tmp_path, make_certificate(tmp_path / "tls")) as guarded:
        with redis.Redis(port=guarded.port, password=PASSWORD) as master:
            master.hset(_KEY, _FIELD, "guarded")
        assert _read(guarded.url()) == ["guarded"] * 3
        for missing, reason in (
            ({"sentinel_password": "other"}, "WRONGPASS"),
            ({"sentinel_username": None, "sentinel_password": None}, "NOAUTH"),
            ({"sentinel_ssl_ca_certs": None}, "certificate in certificate chain"),
            ({"sentinel_ssl_ca_certs": "/no/such.pem"}, "sentinel_ssl_ca_certs=/no/such.pem"),
        ):
            with pytest.raises(RunnerError, match=f"no Sentinel says .*{reason}") as refused:
                _read(guarded.url(**missing))
            assert "sentinel_password" in refused.value.hint
        for not_let_in in (
            guarded.plain_url,
            guarded.url(sentinel_ssl_certfile=None, sentinel_ssl_keyfile=None),
        ):
            with pytest.raises(RunnerError, match="no Sentinel says where the master shop is"):
                _read(not_let_in)


def _write(url: str, value: str) -> None:
    settings = Settings("local", Path(), {"REDIS_URL": url})
    with connect(settings, OnlineConfig("shop", None, is_cluster=False)) as connection:
        connection.client.hset(_KEY, _FIELD, value)
        connection.client.wait(1, 30_000)


async def _reads_on_after_a_failover(watched: WatchedRedis) -> None:
    client = RedisClient(RedisAddress.from_url(watched.url), 5.0, lambda _client, _slots: None)
    await client.start()
    former = client.address.port
    assert await client.ping()
    await asyncio.to_thread(watched.fail_over)
    async with asyncio.timeout(60):
        while client.address.port == former or not await client.ping():
            await asyncio.sleep(0.01)
    await client.stop()


def test_feasts_own_way_to_name_sentinels_is_refused_with_ours(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    settings = Settings("local", tmp_path, {})
    settings.feature_store_yaml.write_text(
        "project: shop\nonline_store: {redis_type: redis_sentinel, sentinel_master: shop}\n"
    )
    with pytest.raises(RunnerError, match="redis_sentinel is Feast's own way") as refused:
        load_online_config(settings)
    assert "REDIS_URL=redis+sentinel://" in refused.value.hint
