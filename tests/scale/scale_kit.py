"""Small shards, and an executor without processes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attar.scale import run as running
from attar.scale.table import METHODS
from attar.scale.work import Work
from attar.scale.worker import act, raised
from attar.verbs.options import Amount
from attar.verbs.shards import request


class Here:
    """Does the units in this process; may count them."""

    def __init__(self, work: Work) -> None:
        self.work, self.workers, self.done = work, 1, []

    def first(self) -> int:
        return 0

    def run(self, step: str, units: Sequence[int]) -> Iterator[int]:
        for unit in units:
            raised(act(self.work, step, unit))
            self.done.append((step, unit))
            yield unit


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """No processes, small pieces and blocks; lists the units that were done."""
    done: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def executor(request: Any, work: Work) -> Iterator[Here]:
        made = Here(work)
        made.done = done
        yield made

    monkeypatch.setattr(running, "executor", executor)
    monkeypatch.setattr("attar.scale.shards.PIECE", 256)
    monkeypatch.setattr("attar.scale.blocks.BLOCK", 100 * 16)
    return done


def rows(n: int = 600, d: int = 4, classes: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Features around a centre for each class, labels, ids in no order, scores with ties, and a text."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    x = (rng.normal(size=(n, d)) + 2 * rng.normal(size=(classes, d))[label]).astype(np.float32)
    ids = rng.permutation(10 * n)[:n].astype(np.int64) - 3 * n
    score = rng.normal(size=n).round(1)
    return {"embedding": x, "label": label, "id": ids, "score": score, "text": np.array([f"row {i}" for i in ids])}


def table(found: dict[str, np.ndarray], features: str = "fixed") -> pa.Table:
    """Rows as an arrow table; features as a list of fixed size or not."""
    columns = {}
    for name, values in found.items():
        if values.ndim == 2:
            kind = pa.list_(pa.from_numpy_dtype(values.dtype), *([values.shape[1]] if features == "fixed" else []))
            columns[name] = pa.array(list(values), kind)
        else:
            columns[name] = pa.array(values.tolist() if values.dtype.kind == "U" else values)
    return pa.table(columns)


def written(
    folder: Path, found: dict[str, np.ndarray], shards: int = 3, group: int = 70, features: str = "fixed"
) -> Path:
    """Rows as shards."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = table(found, features)
    for i, part in enumerate(np.array_split(np.arange(whole.num_rows), shards)):
        pq.write_table(whole.slice(part[0], len(part)), folder / f"part-{i}.parquet", row_group_size=group)
    return folder


class Silent:
    """Shows nothing."""

    def start(self, label: str, total: int, done: int = 0) -> None: ...
    def advance(self, n: int = 1, **facts: float) -> None: ...
    def stop(self) -> None: ...


def select(
    source: Path, out: Path, method: str, amount: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    """One selection; settings of the method in ``m``, all others are those of the reading."""
    made = METHODS[method][0](**settings.pop("m", {}))
    seed = settings.pop("seed", 0)
    reading = running.Reading(**{"workers": 1, **settings})
    asked = request(str(source), method, made, Amount(**(amount or {})), reading, seed, out)
    return running.run(asked, Silent())


def kept(out: Path) -> pa.Table:
    """The kept rows of a folder."""
    return pa.concat_tables(pq.read_table(p) for p in sorted((out / "data").glob("*.parquet")))


def kept_ids(out: Path) -> set[int]:
    """Their ids."""
    return set(kept(out)["id"].to_pylist())


def content(out: Path) -> dict[str, bytes]:
    """What must be the same however it was made: every file but the manifest."""
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    found.pop("manifest.json")
    return found


class Told:
    """A worker without a process: every unit is done when it is told of it."""

    def __init__(self, folder: Path) -> None:
        end, self._said = os.pipe()
        self.output, self.pid, self.unit, self.done, self.ended = os.fdopen(end, "rb"), os.getpid(), -1, 0, False
        self._say(resident=0)

    def _say(self, **answer: int) -> None:
        os.write(self._said, json.dumps(answer).encode() + b"\n")

    def answer(self) -> dict[str, int]:
        return json.loads(self.output.readline())

    def tell(self, step: str, unit: int) -> None:
        self.unit, self.done = unit, self.done + 1
        self._say(unit=unit)

    def end(self) -> None:
        self.ended = True
        os.close(self._said)
        self.output.close()
