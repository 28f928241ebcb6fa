"""Durable files and folders: after a crash at any instant there is the old content or the new, never a mixture.

Promised: a file is written beside its place, fsynced, renamed over it, and its folder fsynced; a folder is built beside
its place and renamed (or exchanged with the old one) in one step. Not promised: durability on file systems that ignore
fsync, and a one-step exchange of folders where the system has none (then the old folder stands beside under a name with
``.attar-old-`` for an instant, and :func:`recover` puts it back).

Temporary names carry the owner's process id and start time, so that :func:`sweep` deletes only what a dead process left.
Every write, fsync and rename passes through :data:`fault`, where the tests kill the process.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from attar.errors import AttarError, ResourceError

fault: Callable[[str, Path], None] | None = None
"""Called before each write, fsync, rename and removal, with its name and path; tests set it."""

_AT_FDCWD, _EXCHANGE = -100, 2


def _point(what: str, path: Path) -> None:
    if fault is not None:
        fault(what, path)


def owner() -> str:
    """This process as ``pid-starttime``; start times tell a reused process id apart."""
    return f"{os.getpid()}-{start_time(os.getpid())}"


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of a process, 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def alive(who: str) -> bool:
    """Whether the process of an :func:`owner` mark still runs."""
    try:
        pid, started = (int(x) for x in who.split("-"))
        os.kill(pid, 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return started == start_time(pid)


@contextmanager
def named(path: Path, doing: str = "writing") -> Iterator[None]:
    """Turns an operating system's error at ``path`` into one sentence with a remedy."""
    try:
        yield
    except OSError as e:
        raise refused(e, path, doing) from e


def refused(e: OSError, path: Path, doing: str = "writing") -> AttarError:
    """The error for an operating system's refusal at ``path``."""
    remedies = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "permission is denied; choose a folder that you can write to",
        errno.EPERM: "permission is denied; choose a folder that you can write to",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }
    why = remedies.get(e.errno or 0, f"the system says: {e.strerror or e}; check the path and the disk")
    return ResourceError(f"{doing} {path} failed: {why}; nothing was lost")


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable; nothing where the system cannot open folders."""
    _point("fsync", folder)
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary(target: Path) -> Path:
    """A temporary name beside ``target``, owned by this process."""
    return target.with_name(f"{target.name}.attar-tmp-{owner()}")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill piece by piece, inside a folder that is not yet in its place; fsynced when the block ends well."""
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _point("write", path)
        with open(path, "x+b") as f:
            yield f
            f.flush()
            _point("fsync", path)
            os.fsync(f.fileno())


def write_new(path: Path, data: bytes) -> None:
    """Writes and fsyncs a file inside a folder that is not yet in its place."""
    with new_file(path) as f:
        f.write(data)


def write_bytes(path: Path, data: bytes) -> None:
    """Puts ``data`` at ``path`` durably, in one step."""
    tmp = temporary(path)
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        tmp.unlink(missing_ok=True)
        write_new(tmp, data)
        with named(path):
            _point("rename", path)
            os.replace(tmp, path)
            sync_folder(path.parent)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Puts a JSON document at ``path`` durably, in one step."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A JSON document, indented, in the order given, without NaN."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextmanager
def folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Builds a folder beside ``target`` and puts it in its place in one step when the block ends well.

    Args:
        target: the final folder.
        replace: whether an existing folder is exchanged for the new one.

    Yields:
        The temporary folder to fill (write its files with :func:`write_new`).

    Raises:
        ResourceError: disk full, no permission.
    """
    tmp = temporary(target)
    with named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir()
    try:
        yield tmp
        with named(target):
            for inner in sorted(p for p in tmp.rglob("*") if p.is_dir()):
                sync_folder(inner)
            sync_folder(tmp)
            _point("rename", target)
            if replace and target.exists():
                exchange(tmp, target)
            else:
                os.rename(tmp, target)
            sync_folder(target.parent)
    finally:
        remove(tmp)


def exchange(new: Path, target: Path) -> None:
    """Swaps two folders; afterwards the old one stands at ``new``."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _EXCHANGE) == 0:
            return
    old = target.with_name(f"{target.name}.attar-old-{owner()}")
    os.rename(target, old)
    _point("rename", target)
    os.rename(new, target)
    os.rename(old, new)


def remove(path: Path) -> None:
    """Deletes a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        _point("remove", path)
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        _point("remove", path)
        path.unlink(missing_ok=True)


def recover(target: Path) -> None:
    """Puts back the old folder if a crash came between the two renames of a system without exchange."""
    for old in sorted(target.parent.glob(f"{target.name}.attar-old-*")):
        if alive(old.name.rsplit(".attar-old-", 1)[1]):
            continue
        if target.exists():
            remove(old)
        else:
            os.rename(old, target)


def sweep(parent: Path, prefix: str = "") -> int:
    """Deletes temporary files and folders whose process is gone.

    Args:
        parent: where to look.
        prefix: only names that begin so.

    Returns:
        How many were deleted.
    """
    if not parent.is_dir():
        return 0
    stale = [
        p
        for p in sorted(parent.iterdir())
        if p.name.startswith(prefix) and ".attar-tmp-" in p.name and not alive(p.name.rsplit(".attar-tmp-", 1)[1])
    ]
    for p in stale:
        remove(p)
    return len(stale)
