"""Files of certificates, which are renewed while a process runs."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int] | None


def stamps(*paths: str | None) -> tuple[Stamp, ...]:
    """Return what changes with the content of each file; None where there is none.

    A TLS context holds what the files held when it was made: keep it with these, and make another
    when they differ.
    """
    return tuple(map(_stamp, paths))


def _stamp(path: str | None) -> Stamp:
    if not path:
        return None
    try:
        found = Path(path).stat()  # a link is followed: Kubernetes renews a secret by moving one
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
