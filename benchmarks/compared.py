"""Every matching method by its short schedule in one comparison: ``python benchmarks/compared.py``.

What ``attar compare $ATTAR_DATA/fashion_mnist --methods matching --ipc 1,10 --quick`` does, and how long it took in all. Killed,
it goes on, and the seconds before count too (to the last ten).
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fidelity import Cell, data
from rows import HERE, RESULTS, Rows, command, environment

import attar

IPC = (1, 10)
BEAT = 10.0
"""Seconds between two notes of the time."""


@contextmanager
def noted(path: Path):
    """Adds a line to a file that always holds the seconds since."""
    before = path.read_text() if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    began, over = time.monotonic(), threading.Event()

    def note() -> None:
        path.write_text(f"{before}{time.monotonic() - began:.0f}\n")

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
    """What a row keeps of a method's score by one network."""
    score = found["score"]
    random = score["baseline"]["random"]
    return {
        **{k: found[k] for k in ("rows", "bytes", "seconds", "shared_seconds", "quick")},
        **{
            k: score[k]
            for k in ("protocol", "labels", "epochs", "seeds", "last_mean", "last_std", "interval", "accuracies")
        },
        "random": {k: random[k] for k in ("last_mean", "last_std", "interval")},
    }


def main() -> None:
    """Compares and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--methods", default="matching")
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dtype", default="float32", help="of making and judging: float32 or bfloat16")
    parser.add_argument("--compile", action="store_const", const=True, help="short works too")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "compared", help="where the sets are made")
    parser.add_argument("--out", type=Path, default=RESULTS / "compared.jsonl")
    given = parser.parse_args()
    how = {"device": given.device, "threads": given.threads, "dtype": given.dtype, "compile": given.compile}
    work = given.work / given.data / given.dtype
    with noted(work / "seconds.txt"):
        table = attar.compare(
            data(Cell(given.data, "random", 1)), methods=given.methods, ipc=IPC, quick=True, out=work / "sets", **how
        )
    spent, rows = [float(line) for line in (work / "seconds.txt").read_text().split()], Rows(given.out)
    plan = table[0]["score"]["plan"]
    for found in table:
        key = {"data": given.data, "method": found["method"], "ipc": found["ipc"], "network": found["score"]["network"]}
        rows.put(cell(found), **key, dtype=given.dtype)
    facts = {"whole_seconds": sum(spent), "calls": len(spent), "methods": len({f["method"] for f in table})}
    facts |= {"plan": plan, "command": command(), "environment": environment(plan["device"], threads=plan["threads"])}
    rows.put(facts, data=given.data, method="all", dtype=given.dtype)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
