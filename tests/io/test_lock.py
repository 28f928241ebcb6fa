"""A lock file holds off a second run, and dies with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attar.errors import ResourceError
from attar.io import atomic
from attar.io.lock import lock


@contextmanager
def holder(path: Path) -> Iterator[int]:
    """Another process that holds a lock to the end of the block, or until it is killed."""
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with lock(path, "it"):
                os.write(ready_w, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.read(ready_r, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready_r)
        os.close(ready_w)


def test_a_second_process_is_refused_and_told_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with holder(path) as pid:
        with (
            pytest.raises(ResourceError, match=rf"photos is in use by another run \(process {pid}\)"),
            lock(path, "photos"),
        ):
            pytest.fail("two hold it")
        assert path.exists(), "the refused one must not remove it"


def test_a_second_thread_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path, "photos"), pytest.raises(ResourceError, match=f"process {os.getpid()}"), lock(path, "photos"):
        pytest.fail("two hold it")


def test_sigkill_releases(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path):
        pass
    assert path.exists()
    with lock(path, "photos"):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_nothing_is_left_after_errors(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock(tmp_path / "lock", "photos"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_waiting_ends_with_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    done_r, done_w = os.pipe()
    with holder(path):
        pid = os.fork()
        if pid == 0:
            with lock(path, "photos", wait=True):
                os.write(done_w, path.read_bytes())
            os._exit(0)
    assert os.read(done_r, 32) == f"{pid}\n".encode()
    assert os.waitpid(pid, 0)[1] == 0 and not path.exists()


@pytest.mark.parametrize("how", ["removed", "replaced", "its folder removed"])
def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else two would hold it: one the file that is gone, one the new file in its place."""
    path, flock, calls = tmp_path / "run" / "lock", fcntl.flock, []

    def late(fd: int, operation: int) -> None:
        if not calls:
            path.unlink()
            if how == "replaced":
                path.write_bytes(b"")
            elif how == "its folder removed":
                path.parent.rmdir()
        calls.append(fd)
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock(path, "photos"):
        assert len(calls) == 2
        with pytest.raises(ResourceError), lock(path, "photos"):
            pytest.fail("two hold it")


def test_a_lock_that_another_took_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path, "photos"):
        path.unlink()
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's"


@pytest.mark.parametrize("at", [1, 2])
def test_a_full_disk_is_named(tmp_path: Path, fail: Callable[..., bool], at: int) -> None:
    def hold() -> None:
        with lock(tmp_path / "lock", "photos"):
            pytest.fail("not held")

    with pytest.raises(ResourceError, match="lock failed: the disk is full"):
        fail(hold, at, OSError(errno.ENOSPC, "no space"))
    assert os.listdir(tmp_path) == [] and atomic.fault is None
    with lock(tmp_path / "lock", "photos"):
        pass
