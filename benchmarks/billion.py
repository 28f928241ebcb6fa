"""What selection from a billion rows would take, reckoned from what was measured."""

from __future__ import annotations

from typing import Any

from attar.scale.shards import Columns, Shard
from attar.scale.table import find
from attar.scale.work import Job

BILLION, CORES = 10**9, 256
LARGE = {
    "el2n, rule ccs, a tenth": ("el2n", 1.0, 13, 20),
    "semdedup, half": ("semdedup", 1.5, 5, 292),
    "kcenter, 1000 rows": ("kcenter", 1.0, 4, 292),
}
"""Of each streamed work: method, exponent of its workers' time, reads of all features, bytes that it keeps of a row of 64."""


def reckoned(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of a table, from the largest size of the rows of ``stream.py``."""
    head = [
        "work",
        "workers' time grows as",
        "core-hours",
        f"on {CORES} cores",
        "then the caller alone",
        "reads of 256 GB",
        "kept beside",
        "memory of a worker",
    ]
    found = {r["what"]: r for r in rows if "worker_seconds" in r and "exponent" not in r}  # the last is the largest
    body = []
    for what, (method, power, reads, kept) in LARGE.items():
        if r := found.get(what):
            busy = r["worker_seconds"] * r["workers"] * (BILLION / r["n"]) ** power / 3600
            alone = (r["call_seconds"] - r["worker_seconds"]) * BILLION / r["n"] / 3600
            told = [f"{busy:,.0f}", _long(busy / CORES), _long(alone), str(reads), f"{kept} GB"]
            body.append(
                [what, "N" if power == 1 else f"N^{power}", *told, f"{_worker_bytes(method, r['width']) / 1e6:.0f} MB"]
            )
    return head, body


def _long(hours: float) -> str:
    """``7.8 h``, or minutes where it is less than two hours."""
    return f"{hours:.1f} h" if hours >= 2 else f"{60 * hours:.0f} min"


def _worker_bytes(method: str, width: int) -> float:
    """What a worker needs for a billion rows beside the interpreter and a piece that it reads."""
    shard = Shard("", 0, BILLION, "", 0)
    facts: dict[str, Any] = {
        "method": method,
        "settings": vars(find(method)()),
        "budget": {},
        "balanced": False,
        "seed": 0,
    }
    job = Job(**facts, columns=Columns(), shards=(shard,), pieces=(), width=width, moments=False)
    return find(method)().worker_bytes(job, 100, 1000)
