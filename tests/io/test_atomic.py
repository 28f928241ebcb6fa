"""Files and folders appear whole or not at all, whatever goes wrong at whichever point."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attar.errors import ResourceError
from attar.io import atomic

ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)
Die = Callable[[Callable[[], object], int], bool]
Fail = Callable[[Callable[[], object], int, OSError], bool]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_folder(target: Path, mark: bytes, *, replace: bool = False) -> None:
    with atomic.folder(target, replace=replace) as tmp:
        atomic.write_new(tmp / "a", b"a" + mark)
        atomic.write_new(tmp / "in" / "b", b"b" + mark)


OLD, NEW = {"a": b"aold", "in/b": b"bold"}, {"a": b"anew", "in/b": b"bnew"}


def until_it_ends(attempt: Callable[[int], bool]) -> int:
    """Calls ``attempt(1)``, ``attempt(2)`` ... until one meets no fault; returns the number of points."""
    for k in range(1, 200):
        if not attempt(k):
            return k - 1
    raise AssertionError("the work has no end")


# files


@pytest.mark.parametrize("number", ERRORS)
def test_a_fault_at_any_point_leaves_the_old_file_or_the_new_one(tmp_path: Path, fail: Fail, number: int) -> None:
    path, seen = tmp_path / "file", set()

    def attempt(k: int) -> bool:
        path.write_bytes(b"old")
        try:
            return fail(lambda: atomic.write_bytes(path, b"new"), k, OSError(number, os.strerror(number)))
        except ResourceError as e:
            assert str(path) in str(e) and "attar-tmp" not in str(e)
        assert os.listdir(tmp_path) == ["file"]
        seen.add(path.read_bytes())
        return True

    assert until_it_ends(attempt) == 5  # create, write, fsync, rename, fsync of the folder
    assert seen == {b"old", b"new"} and path.read_bytes() == b"new"


def test_a_kill_at_any_point_leaves_the_old_file_or_the_new_one(tmp_path: Path, die: Die) -> None:
    path, seen = tmp_path / "file", []

    def attempt(k: int) -> bool:
        path.write_bytes(b"old")
        dead = die(lambda: atomic.write_bytes(path, b"new"), k)
        seen.append(path.read_bytes())
        atomic.write_bytes(path, b"new")
        assert content(tmp_path) == {"file": b"new"}, "what died on the way is swept by whoever writes next"
        return dead

    assert until_it_ends(attempt) == 5
    assert seen == [b"old"] * 4 + [b"new"] * 2


def test_a_file_that_is_there_is_not_opened_as_new(tmp_path: Path) -> None:
    atomic.write_new(tmp_path / "file", b"one")
    with pytest.raises(ResourceError, match="exists"):
        atomic.write_new(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"


def test_every_piece_written_into_a_new_file_is_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(atomic, "fault", lambda what, path: seen.append((what, path.name)))
    with atomic.new_file(tmp_path / "file") as f:
        f.write(b"one")
        f.seek(0)
        assert f.read() == b"one"
        f.write(b"two")
    assert seen == [("create", "file"), ("write", "file"), ("write", "file"), ("fsync", "file")]
    assert (tmp_path / "file").read_bytes() == b"onetwo"


def test_append_adds_at_the_end_and_is_a_point(tmp_path: Path, fail: Fail) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    with pytest.raises(ResourceError, match="the disk is full"):
        fail(lambda: atomic.append(path, b"two\n"), 1, OSError(errno.ENOSPC, "no space"))
    atomic.append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    with pytest.raises(ResourceError):
        atomic.append(tmp_path / "gone" / "log", b"")


# folders


@pytest.mark.parametrize("number", ERRORS)
def test_a_fault_at_any_point_leaves_no_new_folder_or_a_whole_one(tmp_path: Path, fail: Fail, number: int) -> None:
    def attempt(k: int) -> bool:
        target = tmp_path / str(k) / "set"
        target.parent.mkdir()
        try:
            return fail(lambda: write_folder(target, b"new"), k, OSError(number, os.strerror(number)))
        except ResourceError:
            assert os.listdir(target.parent) in ([], ["set"])
            assert not target.exists() or content(target) == NEW
        return True

    assert until_it_ends(attempt) == 1 + 3 + 3 + 2 + 1 + 1  # folder, two files, two folders synced, rename, sync


@pytest.mark.parametrize("number", ERRORS)
def test_a_fault_at_any_point_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, fail: Fail, number: int, either: str
) -> None:
    seen = []

    def attempt(k: int) -> bool:
        target = tmp_path / str(k) / "set"
        write_folder(target, b"old")
        try:
            return fail(lambda: write_folder(target, b"new", replace=True), k, OSError(number, os.strerror(number)))
        except ResourceError:
            seen.append(content(target))
        return True

    assert until_it_ends(attempt) == (12 if either == "exchange" else 14)
    assert {tuple(s) for s in seen} == {tuple(OLD)} and all(s in (OLD, NEW) for s in seen)
    assert seen[0] == OLD and seen[-1] == NEW


def test_a_kill_at_any_point_leaves_the_old_folder_or_the_new_one(tmp_path: Path, die: Die, either: str) -> None:
    missing = 0

    def attempt(k: int) -> bool:
        nonlocal missing
        target = tmp_path / str(k) / "set"
        write_folder(target, b"old")
        dead = die(lambda: write_folder(target, b"new", replace=True), k)
        missing += not target.exists()
        atomic.recover(target)
        assert content(target) in (OLD, NEW)
        write_folder(target, b"new", replace=True)
        assert content(target.parent) == {f"set/{name}": data for name, data in NEW.items()}
        return dead

    until_it_ends(attempt)
    assert missing == (either == "two renames")  # the instant that recover is for


def test_a_kill_between_the_two_renames_is_mended_by_writing_anew(tmp_path: Path, die: Die, no_exchange: None) -> None:
    def attempt(k: int) -> bool:
        target = tmp_path / str(k) / "set"
        write_folder(target, b"old")
        dead = die(lambda: write_folder(target, b"old", replace=True), k)
        write_folder(target, b"new", replace=True)
        assert content(target.parent) == {f"set/{name}": data for name, data in NEW.items()}
        return dead

    until_it_ends(attempt)


def test_an_error_between_the_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_exchange: None
) -> None:
    target, rename = tmp_path / "set", os.rename
    write_folder(target, b"old")

    def refuse(a: Path, b: Path) -> None:
        if ".attar-tmp-" in str(a):
            raise OSError(errno.EIO, "input/output error")
        rename(a, b)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(ResourceError):
        write_folder(target, b"new", replace=True)
    assert content(tmp_path) == {f"set/{name}": data for name, data in OLD.items()}


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic.folder(tmp_path / "set") as tmp:
        atomic.write_new(tmp / "a", b"")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", b"old")
    with pytest.raises(ResourceError, match=r"set failed: the system says: Directory not empty"):
        write_folder(tmp_path / "set", b"new")
    assert content(tmp_path) == {f"set/{name}": data for name, data in OLD.items()}


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_deleted_while_it_is_filled_does_not_appear_in_part(tmp_path: Path, replace: bool) -> None:
    target = tmp_path / "set"
    if replace:
        write_folder(target, b"old")
    with (
        pytest.raises(ResourceError, match=r"set failed: .*deleted while it was being written"),
        atomic.folder(target, replace=replace) as tmp,
    ):
        atomic.write_new(tmp / "a", b"anew")
        atomic.remove(tmp)
        atomic.write_new(tmp / "in" / "b", b"bnew")
    assert content(tmp_path) == ({f"set/{name}": data for name, data in OLD.items()} if replace else {})


@pytest.mark.parametrize("name", ["a[1]", "*", "s e t", "ünï"])
def test_recover_takes_names_literally(tmp_path: Path, name: str) -> None:
    old = tmp_path / f"{name}.attar-old-{_dead()}"
    other = tmp_path / f"other.attar-old-{_dead()}"
    for folder in (old, other):
        write_folder(folder, b"old")
    atomic.recover(tmp_path / name)
    assert content(tmp_path / name) == OLD and not old.exists() and other.exists()


def test_recover_sweeps_what_the_dead_left_of_this_folder(tmp_path: Path) -> None:
    for name in ("set", f"set.attar-old-{_dead()}", f"set.attar-tmp-{_dead()}-0", f"set-2.attar-tmp-{_dead()}-0"):
        (tmp_path / name / "in").mkdir(parents=True)
    atomic.recover(tmp_path / "set")
    assert sorted(p.name.partition(".")[0] for p in tmp_path.iterdir()) == ["set", "set-2"]


def test_recover_leaves_what_a_living_process_is_at(tmp_path: Path) -> None:
    old = tmp_path / f"set.attar-old-{atomic.owner()}"
    write_folder(old, b"old")
    atomic.recover(tmp_path / "set")
    assert old.exists() and not (tmp_path / "set").exists()


def test_threads_may_write_the_same_place_at_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", b"old")

    def write(i: int) -> None:
        for _ in range(20):
            atomic.write_bytes(tmp_path / "file", b"%d" % i)
            write_folder(tmp_path / "set", b"new", replace=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(os.listdir(tmp_path)) == ["file", "set"] and content(tmp_path / "set") == NEW


# who is alive


def _dead() -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    started = atomic.start_time(pid)
    os.waitpid(pid, 0)
    return f"{pid}-{started}"


def test_a_process_is_alive_until_it_ends() -> None:
    assert atomic.alive(atomic.owner())
    assert not atomic.alive(_dead())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell start times")
def test_a_reused_process_id_is_not_the_owner() -> None:
    pid, started, _place = atomic.owner().split("-")
    assert not atomic.alive(f"{pid}-{int(started) + 1}")


def test_what_another_machine_writes_is_left_to_it_until_it_is_stale(tmp_path: Path) -> None:
    for name in ("fresh", "stale"):
        (tmp_path / f"{name}.attar-tmp-{_dead()}-h00000000-3" / "in").mkdir(parents=True)
    (tmp_path / f"mine.attar-tmp-{_dead()}-{atomic.place()}-4").mkdir()
    for item in (*tmp_path.glob("stale*/in"), *tmp_path.glob("stale*")):
        os.utime(item, (0, time.time() - atomic.STALE - 9))
    assert atomic.sweep(tmp_path) == 2
    assert [p.name.partition(".")[0] for p in tmp_path.iterdir()] == ["fresh"]
    assert atomic.place() == atomic.owner().split("-")[2] and re.fullmatch("h[0-9a-f]{8}", atomic.place())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell states")
def test_a_dead_process_that_its_parent_has_not_seen_to_is_dead() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    who = f"{pid}-{atomic.start_time(pid)}"
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert not atomic.alive(who)
    finally:
        os.waitpid(pid, 0)


@pytest.mark.parametrize("who", ["", "x", "1", "1-2-3", "-5", f"{10**30}-1", "a-b"])
def test_what_is_no_process_is_not_alive(who: str) -> None:
    assert not atomic.alive(who)


def test_sweep_deletes_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    dead = _dead()
    mine = atomic.temporary(tmp_path / "set").name
    for name in (f"set.attar-tmp-{dead}-7", mine, "set", f"other.attar-tmp-{dead}-0"):
        (tmp_path / name / "in").mkdir(parents=True)
    (tmp_path / f"set.json.attar-tmp-{dead}-0").write_bytes(b"")
    assert atomic.sweep(tmp_path, "set") == 2
    assert sorted(os.listdir(tmp_path)) == sorted(["set", mine, f"other.attar-tmp-{dead}-0"])
    assert atomic.sweep(tmp_path) == 1
    assert atomic.sweep(tmp_path / "none") == 0


def test_sweep_passes_over_what_it_may_not_delete(tmp_path: Path, fail: Fail) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.attar-tmp-{_dead()}").write_bytes(b"")
    swept = []
    assert fail(lambda: swept.append(atomic.sweep(tmp_path)), 1, PermissionError(errno.EPERM, "not permitted"))
    assert swept == [1] and len(os.listdir(tmp_path)) == 1


# removal, durability, messages


def test_remove_takes_files_folders_and_links_but_not_what_links_point_to(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", b"old")
    (tmp_path / "link").symlink_to("set")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "dangling", "file", "missing"):
        atomic.remove(tmp_path / name)
    assert os.listdir(tmp_path) == ["set"] and content(tmp_path / "set") == OLD
    atomic.remove(tmp_path / "set")
    assert os.listdir(tmp_path) == []


def test_a_removal_that_is_refused_says_so(tmp_path: Path, fail: Fail) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match=r"removing .*file failed: permission is denied"):
        fail(lambda: atomic.remove(tmp_path / "file"), 1, PermissionError(errno.EACCES, "denied"))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_cannot_sync_folders_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def files_only(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", files_only)
    atomic.write_bytes(tmp_path / "file", b"new")
    write_folder(tmp_path / "set", b"new")
    assert content(tmp_path / "set") == NEW


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only; choose another folder"),
        (errno.EACCES, "permission is denied; choose a folder that you can write to"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EIO, "the system says: Input/output error; check the path and the disk"),
    ],
)
def test_a_refusal_is_one_sentence_with_the_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    with pytest.raises(ResourceError) as caught, atomic.named(atomic.temporary(tmp_path / "set") / "a"):
        raise OSError(number, os.strerror(number))
    assert caught.value.exit_code == 4
    assert str(caught.value).startswith(f"writing {tmp_path}/set/a failed: ") and remedy in str(caught.value)


def test_a_name_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="the name is too long"):
        atomic.write_bytes(tmp_path / ("x" * 250), b"")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two folders in one step")
def test_linux_swaps_folders_without_a_moment_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "new"):
        write_folder(tmp_path / name, name.encode())
    monkeypatch.setattr(os, "rename", lambda a, b: pytest.fail("two renames"))
    atomic.exchange(tmp_path / "new", tmp_path / "old")
    assert content(tmp_path / "old") == NEW and content(tmp_path / "new") == OLD
