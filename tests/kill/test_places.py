"""Disks that are full, folders that are read-only or vanish, and clocks that run backwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from trials import Bench, kept, saved_step, stale
from zygote import STOPPED, Trap, Zygote

NET = "convnet:width=8:depth=1"
WORDS = [
    *("distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "4", "--batch", "4", "--net", NET),
    *("--device", "cpu", "--threads", "1", "--out", "set"),
]
KIB = 1024


@pytest.fixture(scope="session")
def disk(fast_folder: Path) -> Iterator[Path]:
    """A disk of one MiB of its own."""
    place = fast_folder / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", place], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def disk_home(disk: Path) -> Iterator[Path]:
    """A home on it."""
    home = disk / "home"
    home.mkdir()
    yield home
    for left in disk.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def fill(place: Path, left: int) -> Path:
    """A file that leaves about ``left`` bytes free."""
    ballast = place / "ballast"
    with open(ballast, "wb") as f:
        free = os.statvfs(place)
        f.write(b"x" * max(0, free.f_bavail * free.f_frsize - left))
    return ballast


def test_a_full_disk_keeps_what_was_saved(dm: Bench, zygote: Zygote, disk: Path, disk_home: Path) -> None:
    codes, steps = set(), set()
    for left in range(0, 160, 16):
        home = disk_home / str(left)
        home.mkdir()
        ballast = fill(disk, left * KIB)
        child = zygote.run("distilled", home, **dm.writer.settings)
        codes.add(child.ended)
        steps.add(saved_step(home))
        assert child.ended == 0 or "the disk is full; free some space and run the same command again" in child.said
        assert zygote.run("check", home).ended == 0
        ballast.unlink()
        assert zygote.run("distilled", home, **dm.writer.settings).ended == 0
        assert kept(home) == dm.reference and stale(home) == []
        shutil.rmtree(home)
    assert codes == {0, 4}
    assert max(steps) > 1, "some ran full in the middle"


def test_a_full_disk_keeps_the_set_without_its_scores(zygote: Zygote, disk: Path, disk_home: Path) -> None:
    home = disk_home
    assert zygote.run("with_set", home).ended == 0
    before = (home / "set" / "condensed.json").read_bytes()
    codes = set()
    for left in range(0, 60, 4):
        ballast = fill(disk, left * KIB)
        child = zygote.run("scored", home, seeds=1, random=False)
        codes.add(child.ended)
        ballast.unlink()
        if child.ended == 0:
            break
        assert "the disk is full" in child.said and (home / "set" / "condensed.json").read_bytes() == before
        assert stale(home) == []
    assert zygote.run("scored", home, seeds=1, random=False).ended == 0
    assert 4 in codes and (home / "set" / "condensed.json").read_bytes() != before


@pytest.mark.parametrize("limit", [KIB, 2 * KIB, 6 * KIB])
def test_a_limit_on_the_size_of_files(zygote: Zygote, home: Path, limit: int) -> None:
    child = zygote.run("command_with_small_files", home, words=WORDS, limit=limit)
    assert child.ended == 4 and not (home / "set").exists()
    assert zygote.run("command", home, words=WORDS).ended == 0
    assert stale(home) == [] and (home / "set" / "condensed.json").exists()


def test_a_read_only_disk_is_refused_before_the_work(zygote: Zygote, disk: Path, disk_home: Path) -> None:
    home = disk_home
    assert zygote.run("with_set", home).ended == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        words = [*WORDS[:-1], "new"]
        child = zygote.run("command", home, words=words, env={"ATTAR_CACHE": "/nowhere"})
        assert child.ended == 4 and child.trail == [("create", "new")]
        assert zygote.run("check", home).ended == 0
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert [p.name for p in home.iterdir() if p.name != "cache"] == ["set"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_belongs_to_another_is_refused_before_the_work(zygote: Zygote, home: Path) -> None:
    home.chmod(0o755)
    child = zygote.run("command_as_nobody", home, words=WORDS)
    assert child.ended == 4 and child.trail == [("create", "set")]
    assert list(home.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_the_work(zygote: Zygote, home: Path) -> None:
    home.chmod(0o555)
    child = zygote.run("command", home, words=WORDS)
    home.chmod(0o755)
    assert child.ended == 4 and child.trail == [("create", "set")]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("at", [("write", "log.jsonl"), ("rename", "state-"), ("fsync", "set.attar-tmp")])
@pytest.mark.parametrize("gone", ["the run's folder", "everything"])
def test_a_folder_that_is_deleted_under_a_run(
    dm: Bench, zygote: Zygote, home: Path, at: tuple[str, str], gone: str
) -> None:
    child = zygote.start("distilled", home, trap=Trap((2,), "stop", at), **dm.writer.settings)
    assert child.wait() == STOPPED
    shutil.rmtree(home if gone == "everything" else home / "set.attar-run")
    child.go_on()
    finished = at[0] == "fsync" and gone != "everything"  # the state is needed no more
    assert child.finished() == (0 if finished else 4), child.said
    home.mkdir(exist_ok=True)
    assert finished or stale(home) == []
    assert zygote.run("distilled", home, **dm.writer.settings).ended == 0
    assert kept(home) == dm.reference and stale(home) == []


def test_a_set_that_is_deleted_while_it_is_scored(zygote: Zygote, home: Path) -> None:
    assert zygote.run("with_set", home).ended == 0
    child = zygote.start("scored", home, seeds=1, random=False, trap=Trap((1,), "stop", ("create", "scores")))
    assert child.wait() == STOPPED
    shutil.rmtree(home / "set")
    child.go_on()
    assert child.finished() == 2 and "there is nothing at" in child.said
    assert [p.name for p in home.iterdir()] == ["cache"] and stale(home) == []


@pytest.mark.parametrize(("at", "inside"), [("link", "."), (".", "set"), ("../set", "set"), ("set/", ".")])
def test_a_set_by_any_path_is_scored_in_its_place(zygote: Zygote, home: Path, at: str, inside: str) -> None:
    assert zygote.run("with_set", home).ended == 0
    (home / "link").symlink_to("set")
    child = zygote.run("scored", home, seeds=1, random=False, at=at, inside=inside)
    assert child.ended == 0, child.said
    assert json.loads((home / "set" / "condensed.json").read_bytes())["scores"]
    assert (home / "link").is_symlink() and not (home / "set").is_symlink() and stale(home) == []


def test_a_clock_that_runs_backwards_changes_nothing(dm: Bench, zygote: Zygote, home: Path) -> None:
    other = home / "other"
    other.mkdir()
    assert zygote.run("command", other, words=WORDS).ended == 0
    reference = {name: value for name, value in kept(other).items() if "log.jsonl" not in name}
    shutil.rmtree(other)
    child = zygote.run("command_on_a_mad_clock", home, words=WORDS, trap=Trap((1,), "kill", ("write", "train.parquet")))
    assert child.ended == -9
    assert zygote.run("command_on_a_mad_clock", home, words=WORDS).ended == 0
    assert {name: value for name, value in kept(home).items() if "log.jsonl" not in name} == reference
    assert stale(home) == []
