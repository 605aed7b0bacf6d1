"""Root's programs run as somebody else, whatever the machine allows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.servers import processes, unprivileged

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="only Linux's root has to become another"
)
WHO = "import os; print(os.geteuid(), os.stat('.').st_uid)"
PYTHON = Path("/usr/bin/python3")

# What Docker's default profile does: unshare answers EPERM.
REFUSE_NAMESPACES = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 272, "aarch64": 97}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-IS", *sys.argv[1:]])
"""


@pytest.fixture
def folder(server_folder: Path, request: pytest.FixtureRequest) -> Path:
    path = server_folder / request.node.name
    path.mkdir(mode=0o700)
    return path


def launch(
    data: Path, *command: str | Path, namespaces: bool = True, text: str = ""
) -> subprocess.CompletedProcess[str]:
    start = ["-IS"] if namespaces else ["-c", REFUSE_NAMESPACES]
    script = [unprivileged.__file__, data, *command]
    return subprocess.run(
        [sys.executable, *start, *script], capture_output=True, text=True, input=text, check=False
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root is another matter")
def test_a_normal_users_program_runs_as_that_user(folder: Path) -> None:
    done = launch(folder, sys.executable, "-c", WHO)
    assert done.stdout.split() == [str(os.geteuid())] * 2, done.stderr


@as_root
def test_roots_program_is_not_root_and_owns_roots_files(folder: Path) -> None:
    (folder / "file").touch(mode=0o600)
    done = launch(folder, PYTHON, "-c", f"open('file', 'a').write('here'); {WHO}")
    uid, owner = done.stdout.split()
    assert uid == owner != "0"
    assert (folder / "file").read_text() == "here"
    assert folder.stat().st_uid == 0


@as_root
def test_a_folder_of_another_user_makes_the_program_run_as_that_user(folder: Path) -> None:
    os.chown(folder, 12345, 12345)
    done = launch(folder, PYTHON, "-c", WHO)
    assert done.stdout.split() == ["12345", "12345"], done.stderr


@as_root
def test_where_namespaces_are_refused_the_folder_goes_to_an_account_without_rights(
    folder: Path,
) -> None:
    (folder / "file").touch(mode=0o600)
    program = "open('file', 'a').write(open('/dev/stdin').read())"
    done = launch(folder, PYTHON, "-c", f"{program}; {WHO}", namespaces=False, text="here")
    uid, owner = done.stdout.split()
    assert uid == owner != "0", done.stderr
    assert (folder / "file").read_text() == "here"
    assert folder.stat().st_uid == (folder / "file").stat().st_uid == int(owner)


@as_root
def test_a_folder_that_the_account_cannot_reach_is_refused_and_keeps_its_owner(
    folder: Path,
) -> None:
    inner = folder / "inner"
    inner.mkdir()
    done = launch(inner, PYTHON, "-c", WHO, namespaces=False)
    assert done.returncode == unprivileged.UNREACHABLE
    assert done.stderr.strip() == str(inner)
    assert inner.stat().st_uid == 0


@as_root
def test_a_namespace_that_cannot_reach_the_folder_is_refused(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(RunnerError, match=f"may not run as root.*{inner}") as caught:
        processes.run([PYTHON, "-c", WHO], inner, "")
    assert "normal user" in caught.value.hint


def test_a_detached_program_has_its_own_session_and_its_output_is_private(folder: Path) -> None:
    program = "import os, signal; print(os.getsid(0) == os.getpid(), flush=True); signal.pause()"
    log = processes.log_of(folder)
    process = processes.start(
        [sys.executable, "-c", program], folder, lambda: bool(log.read_text())
    )
    processes.stop(process, signal.SIGTERM, folder)
    assert log.read_text().strip() == "True"
    assert log.stat().st_mode & 0o077 == 0
