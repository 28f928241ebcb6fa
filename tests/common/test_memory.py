"""How much memory is free, where a container or a job may take less than the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from attar.errors import ResourceError
from attar.execute import memory


def limited(place: Path, most: str, used: int, cached: int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(f"{most}\n")
    (place / "memory.current").write_text(f"{used}\n")
    (place / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\nactive_file 3\n")


def test_the_tightest_limit_counts_and_cached_files_are_free(tmp_path: Path) -> None:
    limited(tmp_path / "a" / "b", "1000", 900, 50)
    limited(tmp_path / "a", "max", 5000, 0)
    limited(tmp_path, "2000", 1950, 0)
    assert memory._of_groups(tmp_path, "a/b") == [153, 53]
    assert memory._of_groups(tmp_path, "") == [53]
    assert memory._of_groups(tmp_path / "none", "x") == []


def test_work_is_refused_by_the_limit_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_groups", lambda root, group: [2**30])
    assert memory.available() == 2**30
    with pytest.raises(ResourceError, match=r"needs about 2\.0 GiB of memory and 1\.0 GiB are free"):
        memory.require(2 * 2**30, "work")


def test_nothing_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_groups", lambda root, group: [])
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    assert memory.available() is None
    memory.require(1e30, "work")
