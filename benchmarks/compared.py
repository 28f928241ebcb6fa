"""Every matching method by its short schedule in one comparison: ``python benchmarks/compared.py``.

What ``attar compare $ATTAR_DATA/fashion_mnist --methods matching --ipc 1,10 --quick`` does, and how long it took in all. Killed,
it goes on, and the seconds before count too (to the last ten). ``--methods ncfm,datm`` measures these alone anew; each row
names the commit that it is of.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fidelity import Cell, asking, compute, data
from rows import HERE, RESULTS, Rows, command, ended, environment

import attar
from attar.io import atomic

IPC = (1, 10)
ALL = "matching"
BEAT = 10.0
"""Seconds between two notes of the time."""


@contextmanager
def noted(path: Path) -> Iterator[None]:
    """Adds a line to a file, which holds the seconds since at all times."""
    before = path.read_text() if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    began, over = time.monotonic(), threading.Event()

    def note() -> None:
        atomic.write_bytes(path, f"{before}{time.monotonic() - began:.0f}\n".encode())

    def beat() -> None:
        while not over.wait(BEAT):
            note()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        note()


def cell(found: dict[str, Any]) -> dict[str, Any]:
    """What a row keeps of a method's score by one network, or of why there is none."""
    score = found["score"]
    random = score["baseline"]["random"]
    names = ("protocol", "epochs", "seeds", "last_mean", "last_std", "interval", "accuracies", "broken")
    return {
        **{k: found[k] for k in ("rows", "bytes", "seconds", "shared_seconds", "quick")},
        **{k: score[k] for k in names if k in score},
        "random": {k: random[k] for k in ("last_mean", "last_std", "interval")},
    }


def main() -> None:
    """Compares and writes the rows."""
    parser = asking(__doc__, work=HERE / "work" / "compared", out=RESULTS / "compared.jsonl")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--methods", default=ALL, help="some of them alone")
    given = parser.parse_args()
    work = given.work / given.data / given.dtype
    with noted(work / "seconds.txt"):
        real, how = data(Cell(given.data, "random", 1)), compute(given)
        table = attar.compare(real, methods=given.methods, ipc=IPC, quick=True, out=work / "sets", **how)
    spent, rows = [float(line) for line in (work / "seconds.txt").read_text().split()], Rows(given.out)
    plan = table[0]["score"]["plan"]
    facts = {"command": command(), "environment": environment(plan["device"], threads=plan["threads"])}
    for found in table:
        what = {k: found["score"][k] for k in ("network", "labels")}
        row = {**cell(found), **facts}
        rows.put(row, data=given.data, method=found["method"], ipc=found["ipc"], **what, dtype=given.dtype)
    whole = {
        "whole_seconds": sum(spent),
        "calls": len(spent),
        "methods": len({f["method"] for f in table}),
        "plan": plan,
    }
    if given.methods == ALL:
        rows.put({**whole, **facts}, data=given.data, method="all", dtype=given.dtype)
    print(json.dumps({**whole, **facts}))


if __name__ == "__main__":
    ended(main)
