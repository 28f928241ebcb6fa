"""Published accuracies beside attar's: ``python benchmarks/fidelity.py [--cells mnist-dm-1,mnist-random-1]``.

Every cell is 3 distilled sets and 5 networks on each, by the standard protocol of the paper; random examples are redrawn
for all 15. Steps stand beside the published steps. A cell whose published schedule is out of reach here runs a shorter one
and says so; the protocol is never shortened. Killed, it goes on: sets and networks that are done are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rows import HERE, RESULTS, Rows, command, environment

import attar
from attar.evaluate.scores import summary
from attar.execute import memory
from attar.registry import find

SETS, NETS = 3, 5


@dataclass(frozen=True)
class Cell:
    """One figure of a published table.

    Args:
        steps: updates of ours; 0 for selections. published_steps: the paper's updates. published: its accuracy, or None.
        source: of the published figure. goal: the least accuracy that is wanted of us, or None.
        settings: of the method. net: that makes and judges. epochs: of judging, where not the protocol's.
        quick: by the method's short schedule.
    """

    data: str
    method: str
    ipc: int
    steps: int = 0
    published_steps: int = 0
    published: float | None = None
    source: str = ""
    goal: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    net: str = "convnet"
    epochs: int | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.data}-{self.method}-{self.ipc}"


MEMORY = "quoted from memory in reviews of the field, not read in a table"
TABLE = "DM, table 1; DC, table 1; DSA, table 1"
CELLS = [
    Cell("mnist", "random", 1, published=0.649, source=MEMORY, goal=0.599),
    Cell("mnist", "dm", 1, 500, 20_000, 0.897, MEMORY, 0.882, {"batch": 64}),
    Cell("mnist", "dc", 1, 1000, 1000, 0.917, TABLE, 0.902),
    Cell("mnist", "random", 10, published=0.951, source=MEMORY, goal=0.936),
    Cell("mnist", "dm", 10, 500, 20_000, 0.975, MEMORY, 0.960, {"batch": 64}),
    Cell("mnist", "dsa", 10, 1000, 10_000, 0.978, TABLE, 0.963),
    Cell("cifar10", "random", 1, published=0.144, source="NCFM, table of baselines"),
    Cell("cifar10", "herding", 1, published=0.215, source="NCFM, table of baselines"),
    Cell("cifar10", "kcenter", 1, published=0.233, source="AutoPalette, table of baselines"),
    Cell("cifar10", "dm", 1, 500, 20_000, 0.260, TABLE, None, {"batch": 64}),
    Cell("cifar10", "random", 10, published=0.260, source="NCFM, table of baselines"),
    Cell("cifar10", "herding", 10, published=0.316, source="NCFM, table of baselines"),
    Cell("cifar10", "kcenter", 10, published=0.364, source="AutoPalette, table of baselines"),
    Cell("cifar10", "dm", 10, 500, 20_000, 0.489, TABLE, None, {"batch": 64}),
]


def main() -> None:
    """Runs the cells that have no row yet, in the order of the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--cells", default=",".join(c.name for c in CELLS))
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--nets", type=int, default=NETS)
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--work", type=Path, default=HERE / "work", help="where the sets are made")
    parser.add_argument("--out", type=Path, default=RESULTS / "fidelity.jsonl")
    given = parser.parse_args()
    rows = Rows(given.out)
    wanted = given.cells.split(",")
    for cell in sorted((c for c in CELLS if c.name in wanted), key=lambda c: wanted.index(c.name)):
        key = {"cell": cell.name, "steps": cell.steps, "sets": given.sets, "networks": given.nets}
        if rows.find(**key) is None:
            rows.put(measured(cell, given), **key)


def measured(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Makes the sets of a cell and scores them."""
    print(cell.name, flush=True)
    root = Path(os.environ.get("ATTAR_DATA", HERE.parents[1] / "shared" / "data"))
    compute = {"device": given.device, "threads": given.threads}
    steps = {"steps": cell.steps} if cell.steps else {"quick": True} if cell.quick else {}
    if cell.net != "convnet" and any(f.name == "net" for f in dataclasses.fields(find(cell.method))):
        steps["net"] = cell.net
    verb = getattr(attar, find(cell.method).kind)
    protocol = "dsa" if cell.method in ("dm", "dsa") or cell.data == "cifar10" or cell.quick else "dc"
    accuracies, makes, scores, began = [], [], {}, time.monotonic()
    sets, nets = (given.sets * given.nets, 1) if cell.method == "random" else (given.sets, given.nets)
    for seed in range(sets):
        out = given.work / f"{cell.name}-{cell.steps}" / str(seed)
        kept = verb(
            root / cell.data, method=cell.method, ipc=cell.ipc, seed=seed, out=out, **steps, **cell.settings, **compute
        )
        makes.append(kept.manifest["lineage"][0])
        how: dict[str, Any] = {
            "protocol": protocol,
            "seeds": nets,
            "first_seed": seed * nets,
            "nets": cell.net,
            "epochs": cell.epochs,
            "random": False,
            "eight_bit": False,
        }
        score = attar.evaluate(kept, real=root / cell.data, **how, **compute)[0]
        accuracies += score["accuracies"]
        scores = {k: score[k] for k in ("protocol", "network", "augment", "epochs", "lr")}
    found = summary(accuracies)
    print(f"  {found['last_mean']:.4f} ({found['interval']}), published {cell.published}", flush=True)
    return {
        "data": cell.data,
        "method": cell.method,
        "ipc": cell.ipc,
        "published_steps": cell.published_steps,
        "published": cell.published,
        "published_source": cell.source,
        "goal": cell.goal,
        "settings": cell.settings,
        "quick": cell.quick,
        "made_steps": makes[0]["steps"],
        **scores,
        **found,
        "make_seconds": [m["seconds"] for m in makes],
        "peak_memory": max(m.get("peak_memory", 0) for m in makes),
        "seconds": time.monotonic() - began,
        "process_peak_memory": memory.peak(),
        "set_means": [sum(accuracies[i * nets :][:nets]) / nets for i in range(sets)],
        "command": command(),
        "environment": environment(given.device or "cpu"),
    }


if __name__ == "__main__":
    main()
