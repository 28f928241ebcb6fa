"""The decoded cache: the same bits the second time, rebuilt when anything changed, whole after a kill."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from real_makers import encoded, pictures, write_folder, write_parquet

from attar.errors import DataError, ResourceError, UsageError
from attar.io import atomic
from attar.real import cache, decode, entry
from attar.real.load import load


@pytest.fixture
def pets(tmp_path) -> Path:
    """A parquet folder with a train and a test file."""
    images = pictures(12)
    write_parquet(tmp_path / "pets" / "train.parquet", images, [0, 1, 2] * 4, ("a", "b", "c"))
    write_parquet(tmp_path / "pets" / "test.parquet", images[:3], [0, 1, 2], ("a", "b", "c"))
    return tmp_path / "pets"


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The lengths of the splits that were decoded."""
    seen: list[int] = []
    true = decode.decode

    def spy(part, *args, **options):
        seen.append(part.n)
        return true(part, *args, **options)

    monkeypatch.setattr(entry, "decode", spy)
    return seen


def everything(real) -> torch.Tensor:
    return real.raw(torch.arange(len(real)))


def test_the_second_load_decodes_nothing(pets, decoded):
    first, second = load(pets), load(pets)
    assert decoded == [12]
    assert first.train.fingerprint == second.train.fingerprint
    assert torch.equal(everything(first.train), everything(second.train))
    assert first.train.table.equals(second.train.table)
    assert (first.train.mean, first.train.std, first.train.ids.tolist()) == (
        second.train.mean,
        second.train.std,
        second.train.ids.tolist(),
    )


def test_the_test_split_is_not_touched_before_it_is_asked_for(pets, decoded):
    (pets / "test.parquet").write_bytes(b"no parquet at all")
    splits = load(pets)
    assert len(splits.train) == 12 and decoded == [12]
    with pytest.raises(DataError, match=r"test\.parquet"):
        _ = splits.test


def test_it_is_opened_once(pets, decoded):
    splits = load(pets)
    assert splits.test is splits.test
    assert decoded == [12, 3]


def test_anything_that_changes_the_pixels_is_decoded_again(pets, decoded):
    load(pets)
    load(pets, size=4)
    load(pets, size=4, resize="squash")
    load(pets, size=(4, 5))
    write_parquet(pets / "train.parquet", pictures(13), [0, 1, 2] * 4 + [0], ("a", "b", "c"))
    load(pets)
    assert decoded == [12, 12, 12, 12, 13]
    load(pets, size=4, workers=1)
    assert len(decoded) == 6  # the file is another one now
    load(pets, size=4, test_fraction=0.5)
    assert len(decoded) == 6


def test_a_folder_tree_is_watched_file_by_file(tmp_path, decoded):
    write_folder(tmp_path / "set", {"a": pictures(3), "b": pictures(3)})
    load(tmp_path / "set")
    (tmp_path / "set" / "a" / "001.png").write_bytes(encoded(pictures(1, seed=9)[0]))
    load(tmp_path / "set")
    assert decoded == [6, 6]


@pytest.mark.parametrize("name", [entry.PIXELS, entry.COLUMNS, entry.INDEX, entry.PAGE])
@pytest.mark.parametrize("damage", ["cut", "gone", "noise"])
def test_a_damaged_entry_is_built_again(pets, decoded, name, damage):
    before = load(pets).train
    pixels = everything(before)
    victim = cache.entries()[0]["path"] / name
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-7])
    elif name != entry.PIXELS:  # pixels are checked by length alone: hashing them would cost more than they save
        victim.write_bytes(b"\0" * victim.stat().st_size)
    again = load(pets).train
    assert decoded == ([12] if (name, damage) == (entry.PIXELS, "noise") else [12, 12])
    assert again.fingerprint == before.fingerprint and torch.equal(everything(again), pixels)
    assert len(cache.entries()) == 1


def run_python(code: str, *arguments: str) -> int:
    """Another process with this one's environment."""
    return subprocess.run([sys.executable, "-c", code, *arguments], env=dict(os.environ), check=False).returncode


def test_the_slower_of_two_processes_takes_the_entry_of_the_quicker(pets, monkeypatch, own_cache):
    true, quicker = entry.save, []

    def save(*args):
        load_there = "import sys; from attar.real.load import load; load(sys.argv[1])"
        assert run_python(load_there, str(pets)) == 0
        quicker.extend(cache.entries())
        true(*args)

    monkeypatch.setattr(entry, "save", save)
    mine = load(pets).train
    assert len(quicker) == 1 and cache.entries() == quicker
    assert mine.fingerprint == json.loads((quicker[0]["path"] / entry.PAGE).read_text())["fingerprint"]
    assert not [p for p in own_cache.rglob("*") if ".attar-tmp-" in p.name]


def test_threads_build_an_entry_once(pets, decoded):
    with ThreadPoolExecutor(4) as pool:
        sets = [s.train for s in pool.map(lambda _: load(pets), range(4))]
    assert decoded == [12] and len({s.fingerprint for s in sets}) == 1


KILLED = """
import os, sys
from pathlib import Path
from attar.io import atomic
from attar.real.load import load
left = [int(sys.argv[2])]
def fault(what, path):
    left[0] -= 1
    if left[0] < 0:
        os._exit(9)
atomic.fault = fault
load(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("point", [0, 3, 6, 9])
def test_a_kill_leaves_nothing_that_is_mistaken_for_an_entry(pets, point, own_cache):
    assert run_python(KILLED, str(pets), str(point)) == 9
    for item in cache.entries():
        assert entry.read(item["path"]) is not None
    assert load(pets).train.sizes == [4, 4, 4]
    assert not [p for p in own_cache.rglob("*") if ".attar-tmp-" in p.name]


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission is denied")])
def test_a_cache_that_cannot_be_written(pets, monkeypatch, code, says, own_cache):
    def fault(what, path):
        if what == "fsync" and path.name == entry.PIXELS:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic, "fault", fault)
    with pytest.raises(ResourceError, match=says) as e:
        load(pets)
    assert "ATTAR_CACHE" in str(e.value) and e.value.exit_code == 4
    assert not [p for p in own_cache.rglob("*") if p.is_file()]


def test_a_cache_folder_that_is_a_file(pets, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="ATTAR_CACHE"):
        load(pets, cache=tmp_path / "file" / "cache")


def test_entries_and_purge(pets, own_cache):
    _ = load(pets).test
    (own_cache / "resources" / "teacher-1").mkdir(parents=True)
    (own_cache / "resources" / "teacher-1" / "w").write_bytes(b"1234")
    found = cache.entries()
    assert [(e["kind"], e["name"].rsplit("-", 1)[0]) for e in found] == [
        ("decoded", "pets-test"),
        ("decoded", "pets-train"),
        ("resources", "teacher"),
    ]
    assert found[2]["bytes"] == 4 and found[1]["bytes"] > 12 * 3 * 30
    assert cache.purge("decoded") == found[0]["bytes"] + found[1]["bytes"]
    assert [e["kind"] for e in cache.entries()] == ["resources"]
    assert cache.purge() == 4 and cache.entries() == []
    with pytest.raises(UsageError, match="no kind 'decodid'"):
        cache.purge("decodid")


def test_a_mapped_set_outlives_its_entry(pets):
    train = load(pets).train
    before = everything(train).clone()
    cache.purge()
    assert torch.equal(everything(train), before)


def test_writing_to_the_pixels_does_not_reach_the_file(pets):
    train = load(pets).train
    before = everything(train).clone()
    assert train.images is not None
    train.images.zero_()
    assert torch.equal(everything(load(pets).train), before)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("ATTAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.root() == tmp_path / "attar"
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "mine"))
    assert cache.root() == tmp_path / "mine"


def test_arrays_leave_no_trace(own_cache):
    images = pictures(6)
    load((images, np.arange(6) % 2))
    assert list(own_cache.iterdir()) == []
