"""One run per folder: a lock that the system releases when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import ResourceError
from attar.io.atomic import named, point


class Held(ResourceError):
    """Another process holds a lock."""


@contextmanager
def lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Holds ``path`` as a lock file for the length of the block, and removes it at the end.

    Args:
        path: the lock file; where its process dies it stays behind, empty of meaning, until the next one ends.
        what: what is locked, for the message.
        wait: wait for the other process instead of refusing.

    Raises:
        Held: another process has it.
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:  # Windows: no advisory lock that dies with its process in the standard library
        yield
        return
    fd = None
    while fd is None:
        fd = _take(path, what, wait)
    try:
        yield
    finally:
        _release(fd, path)


def _take(path: Path, what: str, wait: bool) -> int | None:
    """An open and locked lock file; None where its last owner removed it in the meantime."""
    import fcntl

    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        point("create", path)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise Held(
                f"{what} is in use by another run (process {pid}); wait for it to end, or choose another --out"
            ) from None
        except BaseException:
            os.close(fd)
            raise
        if not _stands(fd, path):
            os.close(fd)
            return None
        try:
            point("write", path)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)  # for the messages of others
        except BaseException:
            _release(fd, path)
            raise
    return fd


def _release(fd: int, path: Path) -> None:
    """Removes the file while it is held, as afterwards it may be another's, and lets go."""
    with contextlib.suppress(OSError):
        if _stands(fd, path):
            path.unlink()
    os.close(fd)


def _stands(fd: int, path: Path) -> bool:
    """Whether an open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
