"""Selection from parquet shards against the number of rows: ``python benchmarks/stream.py``.

Shards of 100,000 rows of 64 features, 100 classes, every tenth row nearly a copy of another, made in a temporary folder (2.6 GB
at 10,000,000 rows). Each work is the command ``attar select --on local`` in a process of its own; the peak is that of the whole
process tree, by what the system tells every 20 ms, over all calls where some were killed. The exponent is the slope of log
seconds against log rows by least squares. It goes on where it was when it is called again: by rows, and inside a work by the
parts that the command has finished.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rows import RESULTS, Rows, command, ended, environment

SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
SHARD, WIDTH, CLASSES = 100_000, 64, 100
WORKS = {
    "el2n, rule ccs, a tenth": ("--method", "el2n", "--rule", "ccs", "--keep", "0.1"),
    "semdedup, half": ("--method", "semdedup", "--keep", "0.5"),
    "kcenter, 1000 rows": ("--method", "kcenter", "--rows", "1000"),
}


def shard(path: Path, number: int) -> None:
    """Writes a shard, the same for the same number, if it is not there."""
    if path.exists():
        return
    rng, middle = np.random.default_rng(number), np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    label = rng.integers(0, CLASSES, SHARD)
    x = (0.5 * middle[label] + rng.normal(size=(SHARD, WIDTH))).astype(np.float32)
    x[9::10] = x[8::10] + 0.01 * x[7::10]
    label[9::10] = label[8::10]
    columns = {
        "id": pa.array(np.arange(number * SHARD, (number + 1) * SHARD)),
        "label": pa.array(label),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), WIDTH),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_suffix(".tmp")
    pq.write_table(pa.table(columns), tmp, row_group_size=SHARD // 4, compression="none", use_dictionary=False)
    tmp.replace(path)


def folder(home: Path, n: int) -> Path:
    """A folder with n rows; smaller folders are links to the first shards of larger ones."""
    made = home / f"shards-{n}"
    made.mkdir(parents=True, exist_ok=True)
    for number in range(-(-n // SHARD)):
        name = f"{number:05d}.parquet"
        shard(home / "all" / name, number)
        if not (made / name).exists():
            os.link(home / "all" / name, made / name)
    return made


def resident(pid: int) -> int:
    """Bytes that a process and all below it hold."""
    try:
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        threads = os.listdir(f"/proc/{pid}/task")
        below = [Path(f"/proc/{pid}/task/{t}/children").read_text().split() for t in threads]
    except (OSError, ValueError, IndexError):
        return 0
    return own + sum(resident(int(c)) for found in below for c in found)


def measured(words: list[str]) -> dict[str, Any]:
    """Runs a command; its seconds, peak memory and JSON answer."""
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([sys.executable, "-m", "attar", *words, "--json"], stdout=said)
        while child.poll() is None:
            peak = max(peak, resident(child.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        said.seek(0)
        answer = json.loads(said.read())
    if child.returncode:
        sys.exit(f"attar {' '.join(words)} failed: {answer['error']}")
    peak = max(peak, answer["peak_memory"])  # that of calls before, which were killed, is in the answer alone
    worked = json.loads((Path(answer["folder"]) / "manifest.json").read_text())["workers"]["seconds"]
    took = {"call_seconds": seconds, "seconds": answer["seconds"], "worker_seconds": worked}
    return {**took, "peak_memory": peak, "kept": answer["rows"]}


def exponent(rows: Rows, name: str, sizes: list[int], how: dict[str, Any]) -> None:
    """Adds the row of the cost against n, once all sizes are there."""
    found = [rows.find(what=name, n=n, **how) for n in sizes]
    if len(sizes) < 2 or None in found:
        return
    seconds = [row["seconds"] for row in found if row]
    slope = float(np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-3)), 1)[0])
    facts = {"seconds": seconds, "peak_memory": [row["peak_memory"] for row in found if row], "exponent": slope}
    rows.put({**facts, "command": command(), "environment": environment()}, what=name, n=sizes, **how)
    print(f"{name}: n^{slope:.2f}", flush=True)


def main() -> None:
    """Runs the works that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--works", default=";".join(WORKS))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()) / "attar-stream")
    parser.add_argument("--out", type=Path, default=RESULTS / "stream.jsonl")
    given = parser.parse_args()
    sizes, rows = [int(n) for n in given.sizes.split(",")], Rows(given.out)
    how = {"memory": given.memory, "workers": given.workers}
    for n in sizes:
        source = folder(given.place, n)
        for name in given.works.split(";"):
            if rows.find(what=name, n=n, **how):
                continue
            number = list(WORKS).index(name)  # the same whatever --works is, as an unfinished folder is gone on with
            out = given.place / f"kept-{number}-{n}-{given.memory}-{given.workers}"
            flags = ["--memory", given.memory, "--workers", str(given.workers), "--on", "local", "--out", str(out)]
            row = measured(["select", str(source), *WORKS[name], *flags])
            rows.put({**row, "width": WIDTH, "command": command(), "environment": environment()}, what=name, n=n, **how)
            print(f"{name}, {n:,}: {row['seconds']:.1f} s, {row['peak_memory'] / 1e6:.0f} MB", flush=True)
    for name in given.works.split(";"):
        exponent(rows, name, sizes, how)


if __name__ == "__main__":
    ended(main)
