"""Worker processes: any number gives the same bytes, a kill at any instant costs nothing, and memory stays in its bound."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scale_kit import content, rows, select, written

from attar.errors import ResourceError
from attar.scale import local

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WORKS = {
    "el2n": ({"rows": 60}, {"epochs": 2}),
    "semdedup": ({"rows": 60}, {"clusters": 8, "rounds": 2}),
    "kcenter": ({"rows": 20}, {}),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("shards") / "in", rows(), shards=5)


@pytest.fixture(scope="module")
def wanted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What one worker writes."""
    home = tmp_path_factory.mktemp("wanted")
    for name, (amount, settings) in WORKS.items():
        select(source, home / name, name, amount, m=settings, workers=1)
    return {name: content(home / name) for name in WORKS}


@pytest.mark.parametrize("name", WORKS)
def test_three_workers_write_what_one_writes(
    name: str, source: Path, wanted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    amount, settings = WORKS[name]
    manifest = select(source, tmp_path / "out", name, amount, m=settings, workers=3)
    assert content(tmp_path / "out") == wanted[name]
    assert not (tmp_path / "out.attar-run").exists()
    assert manifest["memory"]["peak"] > 0


def command(source: Path, out: Path, name: str) -> list[str]:
    amount, settings = WORKS[name]
    flags = [f"--{k}={v}" for k, v in {**amount, **settings}.items()]
    words = [str(source), "--method", name, *flags, "--workers", "2", "--on", "local", "--memory", "1GB"]
    return [sys.executable, "-m", "attar", "select", *words, "--out", str(out)]


def finished(running: Path) -> int:
    """Parts of an unfinished run, none where it ends while one looks."""
    with contextlib.suppress(FileNotFoundError):
        return len(list(running.rglob("*.part")))
    return 0


def test_killed_at_random_instants_the_same_command_ends_with_the_same_bytes(
    source: Path, wanted: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    chance, kills = random.Random(0), 0
    out = tmp_path / "out"
    for turn in range(7):
        child = subprocess.Popen(command(source, out, "semdedup"), stderr=subprocess.PIPE)
        running = tmp_path / "out.attar-run"
        start = finished(running)
        while child.poll() is None and finished(running) <= start:
            time.sleep(0.01)
        if turn < 6:
            time.sleep(0.5 * chance.random() if turn else 0.0)  # the first time at once: the whole work is short
            child.kill()
        _, said = child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, said.decode()
        kills += 1
    assert child.returncode == 0
    assert kills >= 1
    assert content(out) == wanted["semdedup"]
    assert not list(tmp_path.glob("out.*"))


def test_a_worker_that_is_killed_is_replaced(
    source: Path, wanted: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    tell = local.Process.tell

    def deadly(self: local.Process, step: str, unit: int) -> None:
        tell(self, step, unit)
        if (step, unit) in (("survey", 1), ("el2n.0001", 3)) and len(killed) < 2:
            os.kill(self.pid, signal.SIGKILL)
            killed.append(self.pid)

    monkeypatch.setattr(local.Process, "tell", deadly)
    amount, settings = WORKS["el2n"]
    select(source, tmp_path / "out", "el2n", amount, m=settings, workers=2)
    assert len(killed) == 2
    assert content(tmp_path / "out") == wanted["el2n"]


def test_a_unit_that_always_kills_its_worker_ends_the_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = local.Process.tell

    def deadly(self: local.Process, step: str, unit: int) -> None:
        tell(self, step, unit)
        if unit == 2:
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(local.Process, "tell", deadly)
    with pytest.raises(ResourceError, match="unit 2 was killed 3 times"):
        select(source, tmp_path / "out", "random", {"rows": 5}, workers=1)


@contextlib.contextmanager
def _large(home: Path, n: int = 300_000, d: int = 64, shards: int = 4) -> Iterator[Path]:
    """Shards of 77 MB of features."""
    rng = np.random.default_rng(0)
    (home / "in").mkdir()
    for i in range(shards):
        many = n // shards
        x = rng.standard_normal((many, d), dtype=np.float32)
        table = pa.table(
            {
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), d),
                "label": pa.array(rng.integers(0, 10, many)),
                "id": pa.array(np.arange(i * many, (i + 1) * many)),
            }
        )
        pq.write_table(table, home / "in" / f"{i}.parquet", row_group_size=25_000, compression="none")
    yield home / "in"
    shutil.rmtree(home / "in")


def test_memory_of_the_process_tree_stays_in_the_bound(tmp_path: Path) -> None:
    bound, seen = 500 * 10**6, 0
    with _large(tmp_path) as source:
        words = [str(source), "--method", "el2n", "--epochs=1", "--keep=0.01", "--workers=2", "--on=local"]
        words += [f"--memory={bound}", "--json", "--out", str(tmp_path / "out")]
        child = subprocess.Popen([sys.executable, "-m", "attar", "select", *words], stdout=subprocess.PIPE)
        while child.poll() is None:
            seen = max(seen, _resident(child.pid))
            time.sleep(0.02)
        assert child.stdout
        said = json.loads(child.stdout.read())
        child.stdout.close()
    assert said["rows"] == 3000, said
    assert 0 < seen <= bound
    assert abs(said["peak_memory"] - seen) < 0.2 * seen


def _resident(pid: int) -> int:
    """Bytes that a process and all below it hold, by what the system tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        children = [Path(f"/proc/{pid}/task/{t}/children").read_text().split() for t in os.listdir(f"/proc/{pid}/task")]
        return own + sum(_resident(int(c)) for found in children for c in found)
    return 0
