"""Durable files and folders: after a crash at any instant there is the old content or the new, never a mixture.

Promised: a file is written beside its place, fsynced, renamed over it, and its folder fsynced; a folder is built beside
its place and renamed (or exchanged with the old one) in one step. Not promised: durability on file systems that ignore
fsync, and a one-step exchange of folders where the system has none (then the old folder stands beside under a name with
``.attar-old-`` for an instant, and :func:`recover` puts it back).

Temporary names carry the owner's process id, start time and machine, so that :func:`sweep` deletes only what a dead process
left; what another machine or container left counts as alive until nothing in it has changed for a day. Whoever writes a file
or folder anew sweeps what died on the way to it. Every creation, write, fsync, rename and removal
passes through :data:`fault`, where the tests kill the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import io
import itertools
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from attar.errors import AttarError, ResourceError

fault: Callable[[str, Path], None] | None = None
"""Called before each create, write, fsync, rename and remove, with that word and a path; tests set it."""

TEMPORARY, OLD = ".attar-tmp-", ".attar-old-"
STALE = 86_400.0
"""Seconds without a change after which what another machine wrote counts as left."""
_COUNT = itertools.count()
_AT_FDCWD, _EXCHANGE = -100, 2
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def point(what: str, path: Path) -> None:
    """A place where a process may die."""
    if fault is not None:
        fault(what, path)


def owner() -> str:
    """This process as ``pid-starttime-place``; start times tell a reused process id apart."""
    return f"{os.getpid()}-{start_time(os.getpid())}-{place()}"


@functools.cache
def place() -> str:
    """Where process ids mean what they mean here, a machine or a container: ``h`` and eight hexadecimal digits."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return "h" + hashlib.blake2b(f"{platform.node()} {space}".encode(), digest_size=4).hexdigest()


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of a process, 0 where the system does not tell."""
    return _process(pid)[1]


def alive(who: str, path: Path | None = None) -> bool:
    """Whether the process of an :func:`owner` mark (and what else follows it in a temporary name) still runs.

    Args:
        path: what it writes, which tells it where the process is out of sight, on another machine or in a container.
    """
    try:
        pid, started = (int(x) for x in who.split("-")[:2])
    except ValueError:
        return False
    if any(part.startswith("h") and part != place() for part in who.split("-")[2:3]):
        return path is None or time.time() - _touched(path) < STALE
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    state, found = _process(pid)
    return state == "?" or (state not in "ZX" and started == found)


def _touched(path: Path) -> float:
    """When a file or anything in a folder was changed last, or an old folder was renamed, in seconds since 1970; 0 if gone."""
    times = [0.0]
    with contextlib.suppress(OSError):  # it may go meanwhile
        facts = path.lstat()
        times.append(facts.st_ctime if OLD in path.name else facts.st_mtime)
        times += [item.lstat().st_mtime for item in path.rglob("*")]
    return max(times)


def _process(pid: int) -> tuple[str, int]:
    """State letter (Z: dead, but not yet seen to by its parent) and start time; "?" and 0 where the system does not tell."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return facts[0], int(facts[19])
    except (OSError, IndexError, ValueError):
        return "?", 0


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
    shown = re.sub(
        re.escape(TEMPORARY) + r"[0-9]+-[0-9]+(-h[0-9a-f]{8})?(-[0-9]+)?", "", str(path)
    )  # people know the final name
    return ResourceError(f"{doing} {shown} failed: {why}; nothing was lost")


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable; nothing where the system cannot open or fsync folders."""
    point("fsync", folder)
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def temporary(target: Path) -> Path:
    """A fresh temporary name beside ``target``, owned by this process."""
    return target.with_name(f"{target.name}{TEMPORARY}{owner()}-{next(_COUNT)}")


class _File(io.BufferedRandom):
    """A file whose every write is a :func:`point`."""

    def write(self, data: Any, /) -> int:
        point("write", Path(self.name))
        return super().write(data)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill piece by piece, inside a folder that is not yet in its place; fsynced when the block ends well."""
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        point("create", path)
        with _File(io.FileIO(path, "x+")) as f:
            yield f
            f.flush()
            point("fsync", path)
            os.fsync(f.fileno())


def write_new(path: Path, data: bytes) -> None:
    """Writes and fsyncs a file inside a folder that is not yet in its place."""
    with new_file(path) as f:
        f.write(data)


def write_bytes(path: Path, data: bytes) -> None:
    """Puts ``data`` at ``path`` durably, in one step."""
    tmp = temporary(path)
    sweep(path.parent, path.name + TEMPORARY)
    try:
        write_new(tmp, data)
        with named(path):
            point("rename", path)
            os.replace(tmp, path)
            sync_folder(path.parent)
    except BaseException:
        _clear(tmp)
        raise


def append(path: Path, data: bytes) -> None:
    """Adds ``data`` at the end of a file; not durable, and torn where the disk is full or the power fails."""
    with named(path), open(path, "ab") as f:
        point("write", path)
        f.write(data)


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
    if replace:
        recover(target)
    else:
        sweep(target.parent, target.name + TEMPORARY)
    try:
        with named(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            point("create", tmp)
            tmp.mkdir()
        with _unmoved(tmp) as check:
            yield tmp
            with named(target):
                check()
                _place(tmp, target, replace)
    except BaseException:
        _clear(tmp)
        raise
    try:
        remove(tmp)
    except ResourceError:
        _clear(tmp)
        raise
    recover(target)


@contextmanager
def _unmoved(tmp: Path) -> Iterator[Callable[[], None]]:
    """Gives a check that a folder is still the one that it was: files written to one deleted meanwhile would be half of all."""
    try:
        fd = os.open(tmp, os.O_RDONLY)  # while it is open, no new folder gets its number
    except OSError:  # the system cannot open folders
        yield lambda: None
        return

    def check() -> None:
        if not os.path.samestat(os.fstat(fd), os.stat(tmp)):
            raise FileNotFoundError(errno.ENOENT, "it was deleted while it was being written", str(tmp))

    try:
        yield check
    finally:
        os.close(fd)


def _place(tmp: Path, target: Path, replace: bool) -> None:
    """Makes a filled folder durable and renames it."""
    for inner in sorted(p for p in tmp.rglob("*") if p.is_dir()):
        sync_folder(inner)
    sync_folder(tmp)
    if replace and target.exists():
        exchange(tmp, target)
    else:
        point("rename", target)
        os.rename(tmp, target)
    sync_folder(target.parent)


def exchange(new: Path, target: Path) -> None:
    """Swaps two folders; afterwards the old one stands at ``new``."""
    point("rename", target)
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # not in every C library
        if renameat2 and renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _EXCHANGE) == 0:
            return
    old = target.with_name(f"{target.name}{OLD}{owner()}")
    os.rename(target, old)
    try:
        point("rename", target)
        os.rename(new, target)
    except BaseException:
        os.rename(old, target)
        raise
    point("rename", old)
    os.rename(old, new)


def remove(path: Path) -> None:
    """Deletes a file or a folder if it is there.

    Raises:
        ResourceError: the system refuses.
    """
    if not path.exists() and not path.is_symlink():
        return
    with named(path, "removing"):
        point("remove", path)
        if path.is_symlink() or not path.is_dir():
            return path.unlink(missing_ok=True)
        try:
            shutil.rmtree(path)
        except OSError as e:  # another process removes it too, or uses it already
            if e.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def _clear(tmp: Path) -> None:
    """Deletes what is half-made, on the way out with an error that matters more than this."""
    with contextlib.suppress(OSError):
        if tmp.is_dir():
            shutil.rmtree(tmp, ignore_errors=True)
        else:
            tmp.unlink(missing_ok=True)


def recover(target: Path) -> None:
    """Tidies up what crashes left of a folder's making.

    Puts back the old folder if a crash came between the two renames of a system without exchange; sweeps the rest.
    """
    for old in _left(target.parent, target.name + OLD, OLD):
        if not target.exists():
            with named(target):
                os.rename(old, target)
        with contextlib.suppress(ResourceError):
            remove(old)
    sweep(target.parent, target.name + TEMPORARY)


def sweep(parent: Path, prefix: str = "") -> int:
    """Deletes temporary files and folders whose process is gone; those that may not be deleted are left.

    Args:
        parent: where to look.
        prefix: only names that begin so.

    Returns:
        How many were deleted.
    """
    done = 0
    for stale in _left(parent, prefix, TEMPORARY):
        with contextlib.suppress(ResourceError):
            remove(stale)
            done += 1
    return done


def _left(parent: Path, prefix: str, mark: str) -> list[Path]:
    """What dead processes left in a folder under names with ``mark``."""
    if not parent.is_dir():
        return []
    with named(parent, "reading"):
        names = sorted(p.name for p in parent.iterdir() if p.name.startswith(prefix) and mark in p.name)
    return [parent / name for name in names if not alive(name.rsplit(mark, 1)[1], parent / name)]
