"""Real servers: started, found again, used as they are, refused, stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from typer.testing import CliRunner

from contract.redis_address import RedisAddress
from runner import cli
from runner.errors import RunnerError
from runner.servers import local_servers, postgres_server, processes, redis_login, redis_server
from runner.servers.local_servers import ServerStatus
from runner.settings import PostgresAddress, Settings
from tests.conftest import free_port

up = partial(local_servers.up, postgres_options=postgres_server.THROWAWAY_OPTIONS)


@pytest.fixture
def bare_project(server_folder: Path) -> Iterator[Settings]:
    """A project whose addresses are free; its servers are stopped after the test."""
    yield from new_project(server_folder)


@pytest.fixture(scope="module")
def running(server_folder: Path) -> Iterator[Settings]:
    """A project whose servers run: for tests that leave them so."""
    for settings in new_project(server_folder):
        up(settings)
        yield settings


@pytest.fixture(scope="module")
def cluster(server_folder: Path) -> Iterator[Path]:
    """The data of a PostgreSQL that was stopped."""
    for settings in new_project(server_folder):
        up(settings)
        local_servers.down(settings)
        yield settings.root / "data" / "embedded" / "postgres"


@pytest.fixture
def project(bare_project: Settings, cluster: Path) -> Settings:
    """A project that was up before: a copy is quicker than a new cluster."""
    shutil.copytree(cluster, bare_project.root / "data" / "embedded" / "postgres")
    return bare_project


def new_project(server_folder: Path) -> Iterator[Settings]:
    root = Path(tempfile.mkdtemp(dir=server_folder))
    root.chmod(0o711)
    env = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(free_port()),
        "PGUSER": "ann",
        "PGPASSWORD": 'it\'s \\ "secret" é',
        "PGDATABASE": "shop",
        "REDIS_URL": f"redis://:r%22e%5Cd@127.0.0.1:{free_port()}/0",
    }
    yield Settings(target="local", root=root, env=env)
    postgres_server.stop(root / "data/embedded/postgres")
    redis_server.stop(root / "data/embedded/redis")
    shutil.rmtree(root)


def changed(settings: Settings, **env: str) -> Settings:
    return dataclasses.replace(settings, env={**settings.env, **env})


def query(settings: Settings, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(**settings.postgres.conninfo, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []


def cache(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(settings.redis.url, decode_responses=True)


def states(found: list[ServerStatus]) -> list[tuple[str, bool, bool]]:
    return [(one.state, one.embedded, one.changed) for one in found]


def pids(found: list[ServerStatus]) -> list[int | None]:
    return [one.pid for one in found]


def pid_files(settings: Settings) -> list[Path]:
    folder = settings.root / "data" / "embedded"
    return [folder / "postgres" / "postmaster.pid", folder / "redis" / "redis.pid"]


class TestUpAndDown:
    def test_up_starts_both_servers_and_makes_the_database(self, bare_project: Settings) -> None:
        assert states(local_servers.status(bare_project)) == [("stopped", False, False)] * 2
        found = up(bare_project)
        assert states(found) == [("running", True, True)] * 2
        assert query(bare_project, "select current_user, current_database()") == [("ann", "shop")]
        assert cache(bare_project).ping()

    def test_up_again_changes_nothing(self, running: Settings) -> None:
        first, second = local_servers.status(running), up(running)
        assert states(second) == [("running", True, False)] * 2
        assert pids(second) == pids(first)

    def test_data_survive_a_restart(self, project: Settings) -> None:
        up(project)
        query(project, "create table kept as select 42 as answer")
        cache(project).set("kept", "42")
        assert states(local_servers.down(project)) == [("stopped", False, True)] * 2
        up(project)
        assert query(project, "select answer from kept") == [(42,)]
        assert cache(project).get("kept") == "42"

    def test_down_leaves_nothing_behind_and_twice_is_harmless(self, project: Settings) -> None:
        before = pids(up(project))
        local_servers.down(project)
        assert not any(alive(pid) for pid in before)
        assert not any(path.exists() for path in pid_files(project))
        assert states(local_servers.down(project)) == [("stopped", False, False)] * 2

    def test_two_ups_at_once_start_one_pair(self, bare_project: Settings) -> None:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(up, [bare_project, bare_project])
        assert pids(first) == pids(second)
        assert [a.changed != b.changed for a, b in zip(first, second, strict=True)] == [True] * 2

    def test_text_is_utf8_and_sorts_by_code_point_everywhere(self, running: Settings) -> None:
        rows = query(running, "select v from (values ('é'), ('a'), ('Z')) t(v) order by v")
        assert rows == [("Z",), ("a",), ("é",)]
        assert query(running, "show timezone") == [("UTC",)]

    def test_writes_are_durable_unless_a_test_says_otherwise(self) -> None:
        assert "fsync" not in postgres_server.OPTIONS

    def test_another_projects_servers_are_used_and_left_running(
        self, project: Settings, database: PostgresAddress, redis_url: str
    ) -> None:
        theirs = changed(
            project,
            PGPORT=str(database.port),
            PGUSER=database.user,
            PGPASSWORD=database.password,
            PGDATABASE="made_by_up",
            REDIS_URL=redis_url,
        )
        assert states(up(theirs)) == [("running", False, False)] * 2
        assert query(theirs, "select current_database()") == [("made_by_up",)]
        assert states(local_servers.down(theirs)) == [("running", False, False)] * 2

    def test_a_second_project_is_told_whose_servers_it_uses(
        self, bare_project: Settings, running: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (bare_project.root / "dbt_project.yml").touch()
        (bare_project.root / "profiles").mkdir()
        (bare_project.root / "profiles" / "local.env").touch()
        second = {**running.env, "PGDATABASE": "seconds", "MLFLOW_TRACKING_URI": "sqlite:///m.db"}
        for name, value in second.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(bare_project.root)
        for command in ("up", "status", "down"):
            done = CliRunner().invoke(cli.app, [command])
            assert done.exit_code == 0
            assert done.stdout.count(f"started by the project in {running.root}\n") == 2
            hint = "set PGPORT and REDIS_URL in profiles/local.env, with free ports"
            assert [hint in line for line in done.stderr.splitlines()] == [True]
        own = changed(bare_project, REDIS_URL=running.env["REDIS_URL"])
        assert [one.other_project for one in up(own)] == [None, running.root]

    def test_an_account_that_may_not_know_the_folder_is_told_no_project(
        self, bare_project: Settings, running: Settings
    ) -> None:
        query(running, "create role guest login password 'g'")
        cache(running).execute_command("acl", "setuser", "guest", "on", ">g", "+ping", "+info")
        port = running.redis.port
        url = f"redis://guest:g@127.0.0.1:{port}/0"
        env = {**running.env, "PGUSER": "guest", "PGPASSWORD": "g", "REDIS_URL": url}
        found = local_servers.status(changed(bare_project, **env))
        assert [(one.state, one.other_project) for one in found] == [("running", None)] * 2


class TestSecrets:
    def test_passwords_are_asked_for(self, running: Settings) -> None:
        with pytest.raises(psycopg.OperationalError, match="password"):
            query(changed(running, PGPASSWORD="guess"), "select 1")
        with pytest.raises(redis.AuthenticationError):
            cache(changed(running, REDIS_URL=f"redis://127.0.0.1:{running.redis.port}")).ping()

    def test_a_redis_user_of_any_name_can_log_in(self, project: Settings) -> None:
        named = changed(project, REDIS_URL=f"redis://b%40b:p%20w@127.0.0.1:{free_port()}/0")
        up(named)
        assert cache(named).acl_whoami() == "b@b"

    def test_no_password_shows_in_the_process_list(self, running: Settings) -> None:
        passwords = {running.env["PGPASSWORD"], running.redis.password or ""}
        for pid in pids(up(running)):
            process = psutil.Process(pid)
            shown = " ".join([*process.cmdline(), *process.environ().values()])
            assert not any(password in shown for password in passwords)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="not root")
    def test_servers_of_root_do_not_run_as_root(self, running: Settings) -> None:
        for pid in pids(up(running)):
            inside = Path(f"/proc/{pid}/uid_map").read_text().split()
            outside = psutil.Process(pid).uids().effective
            assert inside[0] != "0" or outside != 0


class TestLeftovers:
    def test_killed_servers_start_again_with_what_was_committed(self, project: Settings) -> None:
        found = local_servers.up(project)
        query(project, "create table kept as select 42 as answer")
        for one in found:
            os.kill(one.pid or 0, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids(found)))
        assert all(path.exists() for path in pid_files(project))
        assert states(local_servers.up(project)) == [("running", True, True)] * 2
        assert query(project, "select answer from kept") == [(42,)]

    def test_a_backend_that_outlives_its_killed_server_is_ended(self, project: Settings) -> None:
        server = up(project)[0].pid
        connection = psycopg.connect(**project.postgres.conninfo)
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()  # so that it cannot notice
        try:
            os.kill(server or 0, signal.SIGKILL)
            wait_until(lambda: not alive(server))
            assert alive(backend.pid)
            up(project)
            assert not alive(backend.pid)
        finally:
            connection.close()
            if alive(backend.pid):
                backend.kill()

    @pytest.mark.usefixtures("postgres_server")
    def test_a_pid_file_that_names_another_folders_server_is_ignored(
        self, project: Settings, server_folder: Path
    ) -> None:
        theirs = (server_folder / "postgres" / "postmaster.pid").read_text()
        pid_files(project)[0].write_text(theirs)
        assert postgres_server.running(project.root / "data/embedded/postgres") is None

    def test_a_pid_file_that_names_a_stranger_is_ignored(self, project: Settings) -> None:
        up(project)
        local_servers.down(project)
        for path in pid_files(project):
            path.write_text(f"{os.getpid()}\n")
        assert states(local_servers.down(project)) == [("stopped", False, False)] * 2
        assert states(up(project)) == [("running", True, True)] * 2

    @pytest.mark.parametrize("content", ["", "not a number\n"])
    def test_a_broken_pid_file_is_ignored(self, project: Settings, content: str) -> None:
        for path in pid_files(project):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        assert states(local_servers.down(project)) == [("stopped", False, False)] * 2

    def test_a_cluster_left_half_made_is_made_anew(self, bare_project: Settings) -> None:
        unfinished = bare_project.root / "data/embedded/postgres.new"
        unfinished.mkdir(parents=True)
        (unfinished / "PG_VERSION").write_text("18\n")
        assert states(up(bare_project)) == [("running", True, True)] * 2
        assert not unfinished.exists()


class TestStrangers:
    """Something else on the port: an error that names address and variable, nothing started."""

    @pytest.fixture(params=["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"])
    def stranger(self, request: pytest.FixtureRequest) -> Iterator[int]:
        """A port where a server says its line to whoever comes, and hangs up."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=_greet, args=(listener, request.param.encode()))
            thread.start()
            yield listener.getsockname()[1]
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

    def test_on_the_port_of_postgres(self, bare_project: Settings, stranger: int) -> None:
        taken = changed(bare_project, PGPORT=str(stranger))
        error = refused(up, taken)
        assert f"127.0.0.1:{stranger} does not answer as PostgreSQL" in error.message
        assert "PGPORT" in error.hint
        found = local_servers.status(taken)
        assert [one.state for one in found] == ["unusable", "stopped"]
        assert (found[0].problem, found[0].hint) == (error.message, error.hint)

    def test_on_the_port_of_redis(self, bare_project: Settings, stranger: int) -> None:
        taken = changed(bare_project, REDIS_URL=f"redis://127.0.0.1:{stranger}/0")
        error = refused(up, taken)
        assert f"127.0.0.1:{stranger} does not answer as Redis" in error.message
        assert "REDIS_URL" in error.hint
        assert [one.state for one in local_servers.status(taken)] == ["stopped", "unusable"]

    def test_a_silent_one_is_not_waited_for(
        self, bare_project: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_server, "_ANSWER_SECONDS", 0.1)
        monkeypatch.setattr(redis_login, "_ANSWER_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            silent = changed(bare_project, PGPORT=str(port), REDIS_URL=f"redis://127.0.0.1:{port}")
            assert [one.state for one in local_servers.status(silent)] == ["unusable"] * 2

    def test_one_that_took_the_port_without_listening(self, project: Settings) -> None:
        with socket.socket() as taker:
            taker.bind(("127.0.0.1", project.postgres.port))
            error = refused(up, project)
        assert "port is taken" in error.message
        assert "PGPORT" in error.hint


class TestRefusals:
    def test_a_wrong_password_names_address_and_variable(
        self, bare_project: Settings, database: PostgresAddress
    ) -> None:
        wrong = changed(
            bare_project, PGPORT=str(database.port), PGUSER=database.user, PGPASSWORD="wrong"
        )
        error = refused(up, wrong)
        assert f"127.0.0.1:{database.port} refuses user runner" in error.message
        assert "password authentication failed" in error.message
        assert "PGPASSWORD" in error.hint
        assert not (bare_project.root / "data/embedded/redis").exists()

    def test_a_wrong_redis_password_names_address_and_variable(self, running: Settings) -> None:
        port = running.redis.port
        error = refused(up, changed(running, REDIS_URL=f"redis://:wrong@127.0.0.1:{port}/0"))
        assert f"127.0.0.1:{port} refuses the login" in error.message
        assert "REDIS_URL" in error.hint

    def test_a_password_changed_since_the_data_were_made_leaves_nothing_running(
        self, project: Settings
    ) -> None:
        up(project)
        local_servers.down(project)
        error = refused(up, changed(project, PGPASSWORD="other"))
        assert str(project.root / "data/embedded/postgres") in error.message
        assert "PGPASSWORD" in error.hint
        assert postgres_server.running(project.root / "data/embedded/postgres") is None

    def test_a_missing_database_is_told_before_work_begins(self, running: Settings) -> None:
        error = refused(local_servers.require_servers, changed(running, PGDATABASE="nowhere"))
        assert 'database "nowhere" does not exist' in error.message
        assert "runner up" in error.hint

    def test_a_missing_database_that_the_user_may_not_make(self, running: Settings) -> None:
        query(running, "create role bob login password 'b'")
        bob = changed(running, PGUSER="bob", PGPASSWORD="b", PGDATABASE="bobs")
        error = refused(up, bob)
        assert "database bobs is missing" in error.message
        assert "createdb -O bob bobs" in error.hint

    def test_a_database_that_exists_and_refuses_the_user(self, project: Settings) -> None:
        up(project)
        query(project, "create role bob login password 'b'")
        query(project, "revoke connect on database shop from public")
        error = refused(up, changed(project, PGUSER="bob", PGPASSWORD="b"))
        assert "permission denied for database" in error.message

    def test_a_database_that_another_up_makes_meanwhile_is_fine(
        self, database: PostgresAddress
    ) -> None:
        new = dataclasses.replace(database, database="wanted_by_many")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: postgres_server.check(new, create=True), range(4)))
        assert len(set(found)) == 1

    def test_a_socket_folder_without_server(self, bare_project: Settings) -> None:
        error = refused(up, changed(bare_project, PGHOST="/nonexistent"))
        assert "/nonexistent" in error.message

    @pytest.mark.parametrize(
        ("env", "name"),
        [({"PGHOST": "db.invalid"}, "PGHOST"), ({"REDIS_URL": "redis://db.invalid"}, "REDIS_URL")],
    )
    def test_nothing_starts_for_an_address_elsewhere(
        self, bare_project: Settings, env: dict[str, str], name: str
    ) -> None:
        error = refused(up, changed(bare_project, **env))
        assert "does not answer at db.invalid" in error.message
        assert name in error.hint
        assert states(local_servers.status(bare_project)) == [("stopped", False, False)] * 2

    def test_required_servers_that_are_stopped_point_to_up(self, project: Settings) -> None:
        error = refused(local_servers.require_servers, project)
        assert f"127.0.0.1:{project.postgres.port}" in error.message
        assert "runner up" in error.hint
        up(project)
        local_servers.require_servers(project)

    @pytest.mark.parametrize(
        "url",
        ["rediss://127.0.0.1:{}/0", "unix:///nowhere", "http://127.0.0.1:{}", "redis://h:port"],
    )
    def test_an_own_redis_speaks_plain_tcp_only(self, bare_project: Settings, url: str) -> None:
        error = refused(up, changed(bare_project, REDIS_URL=url.format(free_port())))
        assert "REDIS_URL" in error.hint

    def test_an_address_that_is_not_of_redis(
        self, project: Settings, redis_server: RedisAddress
    ) -> None:
        url = f"http://127.0.0.1:{redis_server.port}"
        assert "REDIS_URL" in refused(up, changed(project, REDIS_URL=url)).message

    def test_a_redis_user_who_may_do_little_can_still_work(self, running: Settings) -> None:
        cache(running).execute_command("acl setuser clerk on >pw ~* +hset +hmget +ping")
        url = f"redis://clerk:pw@127.0.0.1:{running.redis.port}/0"
        found = local_servers.status(changed(running, REDIS_URL=url))[1]
        assert (found.state, found.version) == ("running", "Redis")

    def test_data_of_another_major_version(self, project: Settings) -> None:
        up(project)
        local_servers.down(project)
        (project.root / "data/embedded/postgres/PG_VERSION").write_text("9\n")
        error = refused(up, project)
        assert "was made by PostgreSQL 9" in error.message
        assert "move" in error.hint

    def test_an_own_server_at_another_address(self, running: Settings) -> None:
        moved = changed(running, PGPORT=str(free_port()))
        assert local_servers.status(moved)[0].state == "stopped"
        assert "already runs" in refused(up, moved).message
        assert "runner down" in refused(up, moved).hint

    def test_an_own_redis_at_another_address(self, running: Settings, redis_url: str) -> None:
        moved = changed(running, REDIS_URL=f"redis://127.0.0.1:{free_port()}")
        assert local_servers.status(moved)[1].state == "stopped"
        assert "already runs" in refused(up, moved).message
        assert states(local_servers.status(changed(running, REDIS_URL=redis_url)))[1][:2] == (
            "running",
            False,
        )

    def test_a_file_where_the_data_folder_should_be(self, bare_project: Settings) -> None:
        (bare_project.root / "data").touch()
        assert str(bare_project.root / "data") in refused(up, bare_project).message

    def test_a_full_disk(self, bare_project: Settings) -> None:
        data = bare_project.root / "data"
        data.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(data)]
        if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("may not mount a small disk")
        try:
            error = refused(up, bare_project)
        finally:
            subprocess.run(["umount", str(data)], check=True)
        assert "disk full" in error.message
        assert "free some space" in error.hint


class TestProcesses:
    def test_a_package_that_is_not_installed(self) -> None:
        error = refused(processes.installed, "no_such_package")
        assert "no_such_package" in error.message
        assert "docker compose" in error.hint

    def test_a_program_that_is_missing(self, bare_project: Settings) -> None:
        start = partial(postgres_server.start, bare_project.postgres, binaries=Path("/nonexistent"))
        assert "/nonexistent/postgres: no such program" in refused(start, bare_project.root).message

    def test_a_program_that_ends_at_once_is_quoted(self, bare_project: Settings) -> None:
        program = "print('warming up'); print('FATAL: no luck'); print('bye')"
        for _ in range(2):  # what it said the first time is not taken for the second's
            error = refused(start_python, bare_project.root, program)
            assert "FATAL: no luck" in error.message
        assert "it said nothing" in refused(start_python, bare_project.root, "pass").message
        assert str(processes.log_of(bare_project.root)) in error.hint

    def test_a_program_that_is_never_ready_is_ended(
        self, bare_project: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "START_SECONDS", 0)
        program = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
        error = refused(start_python, bare_project.root, program)
        assert "was not ready" in error.message
        log = processes.log_of(bare_project.root).read_text()
        assert not log.strip() or not alive(int(log))

    def test_a_program_that_does_not_stop_is_named(
        self, bare_project: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
        process = start_python(bare_project.root, f"{program}; signal.pause()", ready=True)
        monkeypatch.setattr(processes, "STOP_SECONDS", 0)
        error = refused(processes.stop, process, signal.SIGTERM, bare_project.root)
        assert f"kill -9 {process.pid}" in error.hint
        monkeypatch.undo()
        processes.stop(process, signal.SIGKILL, bare_project.root)
        processes.stop(process, signal.SIGKILL, bare_project.root)
        assert not alive(process.pid)

    def test_a_log_that_grew_too_long_is_put_aside(self, bare_project: Settings) -> None:
        log = processes.log_of(bare_project.root)
        with log.open("w") as file:
            file.truncate(20_000_000)
        refused(start_python, bare_project.root, "print('new')")
        assert log.read_text() == "new\n"
        assert log.with_suffix(".log.old").stat().st_size == 20_000_000


def test_debians_own_servers_run_under_the_same_launcher(
    postgres_server: PostgresAddress, redis_server: RedisAddress, server_choice: str
) -> None:
    versions = (
        f"{local_servers.postgres_server.check(postgres_server)} {_redis_version(redis_server)}"
    )
    expected = {"embedded": "18. Valkey 9", "debian": "15. Redis 7"}[server_choice]
    assert all(part in versions for part in expected.split())


def _redis_version(address: RedisAddress) -> str | None:
    return redis_server.check(address)


def refused(call: Callable[..., object], *arguments: object) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        call(*arguments)
    return caught.value


def start_python(data: Path, program: str, *, ready: bool = False) -> psutil.Process:
    log = processes.log_of(data)
    command = [sys.executable, "-c", program]
    return processes.start(command, data, lambda: ready and bool(log.read_text()))


def alive(pid: int | None) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not holds():  # pytest's timeout ends a wait in vain
        pause.wait(0.01)


def _greet(listener: socket.socket, line: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.sendall(line)
            connection.recv(64)
