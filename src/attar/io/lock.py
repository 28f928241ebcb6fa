"""One run per folder: a lock that the system releases when its process dies, however it dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import ResourceError
from attar.io.atomic import named


@contextmanager
def lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Holds ``path`` as a lock file for the length of the block.

    Args:
        path: the lock file; it stays behind, empty of meaning, unless its folder is removed.
        what: what is locked, for the message.
        wait: wait for the other process instead of refusing.

    Raises:
        ResourceError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no advisory lock that dies with its process in the standard library
        yield
        return
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            pid = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            raise ResourceError(
                f"{what} is in use by another run (process {pid}); wait for it to end, or choose another --out"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
