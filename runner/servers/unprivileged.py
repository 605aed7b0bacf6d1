"""Starts a program as somebody other than root, because PostgreSQL refuses to run as root.

A script, run by path with `python -IS`: it starts in 20 ms and needs nothing installed.
`unprivileged.py [--log FILE] DATA PROGRAM ARGUMENT…` runs PROGRAM in place of itself; with `--log`
it detaches PROGRAM from the terminal, sends its output to FILE and prints its process id.

A normal user just runs the program. Root runs it as the owner of the folder DATA; where that is
root too, inside a user namespace in which root's files belong to `nobody`, so that nothing needs
another owner or wider permissions. Where namespaces are refused (Docker's default profile, macOS)
DATA is given to `nobody`, and only if that account can reach it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import stat
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000
UNREACHABLE = 77  # exit code: the account we would drop to cannot reach the files


def leave_root(data: Path, program: Path) -> None:
    """Stop being root in this process; see the module's description."""
    owner = data.stat()
    if owner.st_uid != 0:
        _become(owner.st_uid, owner.st_gid)
        return
    account = pwd.getpwnam("nobody")
    if _enter_namespace(account):
        _require(data, program, lambda path: os.access(path, os.X_OK))
        return
    _require(data, program, _open_to_all)
    for path in (data, *data.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    _become(account.pw_uid, account.pw_gid)


def _enter_namespace(account: pwd.struct_passwd) -> bool:
    """Return whether this process now runs as `account`, seeing root's files as its own."""
    outside = os.geteuid(), os.getegid()  # inside they are unknown until mapped
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(CLONE_NEWUSER) != 0:
        return False
    proc = Path("/proc/self")
    proc.joinpath("setgroups").write_text("deny")
    proc.joinpath("uid_map").write_text(f"{account.pw_uid} {outside[0]} 1")
    proc.joinpath("gid_map").write_text(f"{account.pw_gid} {outside[1]} 1")
    return True


def _become(uid: int, gid: int) -> None:
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        os.fchown(0, uid, gid)  # initdb opens /dev/stdin by name
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _require(data: Path, program: Path, reachable: Callable[[Path], bool]) -> None:
    for path in (data, program):
        if not reachable(path):
            sys.stderr.write(f"{path}\n")
            raise SystemExit(UNREACHABLE)


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def detach(output: int) -> None:
    """Return in a child process without a terminal that writes to `output`; the parent exits."""
    pid = os.fork()
    if pid:
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os._exit(0)
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)


def main(arguments: list[str]) -> None:
    """Run the program named by `arguments` in place of this process."""
    output = None
    if arguments[0] == "--log":
        output = os.open(arguments[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        arguments = arguments[2:]
    data, program = Path(arguments[0]), Path(arguments[1])
    if os.geteuid() == 0:
        leave_root(data, program)
    if output is not None:
        detach(output)
    os.chdir(data)
    os.execv(program, arguments[1:])  # noqa: S606 - the point of this script


if __name__ == "__main__":
    main(sys.argv[1:])
