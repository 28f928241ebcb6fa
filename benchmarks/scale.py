"""Cost against the number of real examples N: ``python benchmarks/scale.py``.

Random images of 32x32 in memory, 10 classes. The exponent is the slope of log seconds against log N by least squares: 0 for
work that does not see N, 1 for one pass.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from alone import answer
from rows import RESULTS, Rows, command, ended, environment

SIZES = (2_000, 8_000, 32_000, 128_000)


def selected(method: str, n: int) -> None:
    """Ten of each class."""
    import attar

    attar.select(made(n), method=method, ipc=10, out=None, threads=1, device="cpu")


def distilled(n: int) -> None:
    """Three steps of DM."""
    import attar

    how: dict[str, Any] = {"net": "convnet:width=32", "batch": 16, "steps": 3, "compile": False}
    attar.distill(made(n), method="dm", ipc=1, out=None, threads=1, device="cpu", **how)


def made(n: int) -> dict[str, np.ndarray]:
    """Random images and labels, with a small test split."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return {"x_train": x, "y_train": np.arange(n) % 10, "x_test": x[:100], "y_test": np.arange(100) % 10}


WORKS: dict[str, Callable[[int], None]] = {
    "random, 10 of each class": lambda n: selected("random", n),
    "kcenter, 10 of each class, pixels": lambda n: selected("kcenter", n),
    "herding, 10 of each class, pixels": lambda n: selected("herding", n),
    "kmeans, 10 of each class, pixels": lambda n: selected("kmeans", n),
    "dm, three steps": distilled,
}


def timed(name: str, n: int, found: Any) -> None:
    """Runs one work in a process of its own; gives seconds without imports and data, and the peak memory."""
    from attar.execute import memory

    WORKS[name](200)  # imports and first calls
    began = time.perf_counter()
    made(n)
    data = time.perf_counter() - began
    began = time.perf_counter()
    WORKS[name](n)
    found.put((time.perf_counter() - began - data, memory.peak()))


def main() -> None:
    """Runs the works that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--works", default=";".join(WORKS))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.jsonl")
    given = parser.parse_args()
    sizes, rows = [int(n) for n in given.sizes.split(",")], Rows(given.out)
    for name in given.works.split(";"):
        if rows.find(what=name, n=sizes):
            continue
        seconds, memories = [], []
        for n in sizes:
            facts = answer(timed, name, n)
            if facts is None:
                raise SystemExit(f"{name} failed at {n:,}; its error stands above")
            took, peak = facts
            seconds.append(took)
            memories.append(peak)
            print(f"{name}, {n:,}: {took:.2f} s, {peak / 1e6:.0f} MB", flush=True)
        slope = float(np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-3)), 1)[0])
        facts = {"exponent": slope, "command": command(), "seed": 0, "environment": environment()}
        rows.put({"seconds": seconds, "peak_memory": memories, **facts}, what=name, n=sizes)


if __name__ == "__main__":
    ended(main)
