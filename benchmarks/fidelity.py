"""Published accuracies beside attar's: ``python benchmarks/fidelity.py [--cells mnist-dm-1,mnist-random-1]``.

Every cell is 3 distilled sets and 5 networks on each, by the standard protocol of the paper; random examples are redrawn
for all 15. Steps stand beside the published steps. A cell whose published schedule is out of reach here runs a shorter one
and says so; the protocol is never shortened. Killed, it goes on: sets and networks that are done are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from rows import HERE, RESULTS, Rows, command, ended, environment

import attar
from attar.condensed import Condensed
from attar.evaluate.scores import summary
from attar.execute import crew, memory, plan
from attar.execute.progress import Progress, Silent
from attar.registry import find
from attar.resources.build import gather
from attar.resources.resource import needed
from attar.verbs.distill import job_of, scheduled
from attar.verbs.read import read

SETS, NETS = 3, 5


@dataclass(frozen=True)
class Cell:
    """One figure of a published table.

    Args:
        steps: updates of ours; 0 for selections. published_steps: the paper's updates. published: its accuracy, or None.
        source: of the published figure. goal: the least accuracy that is wanted of us, or None.
        settings: of the method. net: that makes and judges. epochs: of judging, where not the protocol's.
        quick: by the method's short schedule. tag: what tells the cell from another one of its method.
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
    tag: str = ""

    @property
    def name(self) -> str:
        return "-".join((self.data, self.method, str(self.ipc), *filter(None, [self.tag])))

    @property
    def asked(self) -> dict[str, Any]:
        """What the verb is asked for; a network that the short schedule itself names is kept."""
        kind = find(self.method)
        steps = {"steps": self.steps} if self.steps else {"quick": True} if self.quick else {}
        given = self.net != "convnet" and any(f.name == "net" for f in dataclasses.fields(kind))
        net = {"net": self.net} if given and not (self.quick and "net" in kind.quick) else {}
        return {**steps, **net, **self.settings}

    @property
    def schedule(self) -> str:
        """Tells one short schedule from another: rows and sets of an earlier one are no results of this one."""
        settings = {**find(self.method).quick, **self.asked}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


MEMORY = "quoted from memory in reviews of the field, not read in a table"
TABLE = "DM, table 1; DC, table 1; DSA, table 1"
CELLS = [
    Cell("mnist", "random", 1, published=0.649, source=MEMORY, goal=0.599),
    Cell("mnist", "dm", 1, 1000, 20_000, 0.897, MEMORY, 0.882, {"batch": 64}),
    Cell("mnist", "dc", 1, 1000, 1000, 0.917, TABLE, 0.902),
    Cell("mnist", "random", 10, published=0.951, source=MEMORY, goal=0.936),
    Cell("mnist", "dm", 10, 2000, 20_000, 0.975, MEMORY, 0.960, {"batch": 64}),
    Cell("mnist", "dsa", 10, 300, 10_000, 0.978, TABLE, 0.963),
    Cell("cifar10", "random", 1, published=0.144, source="NCFM, table of baselines"),
    Cell("cifar10", "herding", 1, published=0.215, source="NCFM, table of baselines"),
    Cell("cifar10", "kcenter", 1, published=0.233, source="AutoPalette, table of baselines"),
    Cell("cifar10", "dm", 1, 1000, 20_000, 0.260, TABLE, None, {"batch": 64}),
    Cell("cifar10", "random", 10, published=0.260, source="NCFM, table of baselines"),
    Cell("cifar10", "herding", 10, published=0.316, source="NCFM, table of baselines"),
    Cell("cifar10", "kcenter", 10, published=0.364, source="AutoPalette, table of baselines"),
    Cell("cifar10", "dm", 10, 1000, 20_000, 0.489, TABLE, None, {"batch": 64}),
]


def main() -> None:
    """Runs the cells that have no row yet, in the order of the table."""
    parser = asking(__doc__, work=HERE / "work", out=RESULTS / "fidelity.jsonl")
    parser.add_argument("--cells", default=",".join(c.name for c in CELLS))
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--nets", type=int, default=NETS)
    given = parser.parse_args()
    rows = Rows(given.out)
    wanted = given.cells.split(",")
    for cell in sorted((c for c in CELLS if c.name in wanted), key=lambda c: wanted.index(c.name)):
        counted = {"sets": given.sets, "networks": given.nets}
        key = {"cell": cell.name, "steps": cell.steps, **counted, "dtype": given.dtype}
        if rows.find(**key) is None:
            rows.put(measured(cell, given), **key)


def measured(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Makes the sets of a cell and scores them, beside each other where no threads are named."""
    print(cell.name, flush=True)
    began = time.monotonic()
    sets, nets = (given.sets * given.nets, 1) if cell.method == "random" else (given.sets, given.nets)
    alone = given.threads is not None or given.device not in (None, "cpu")
    how = given if alone else argparse.Namespace(**{**vars(given), "threads": 1})
    pieces = [partial(one, cell, how, number, nets) for number in range(sets)]
    workers = 1 if alone else beside(sets, plan.cores())
    of_a_core = min(1, plan.cores() / workers)  # its share, where more sets than cores take turns
    if not alone:
        share(cell, how)
    makes, scores, peaks = zip(*crew.done(pieces, workers=workers, progress=Silent(), label=cell.name, total=sets))
    found = over_sets([score["accuracies"] for score in scores])
    print(f"  {found['last_mean']:.4f} ({found['interval']}), published {cell.published}", flush=True)
    plans = {"made": makes[0]["plan"], "judged": scores[0]["plan"]}
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
        "made_settings": makes[0]["settings"],
        "made_steps": makes[0]["steps"],
        **{k: scores[0][k] for k in ("protocol", "network", "labels", "augment", "epochs", "lr")},
        **found,
        "make_seconds": [m["seconds"] * of_a_core for m in makes],
        "peak_memory": max(m.get("peak_memory", 0) for m in makes),
        "seconds": time.monotonic() - began,
        "process_peak_memory": max(peaks),
        "sets_beside": workers,
        "plans": plans,
        "command": command(),
        "environment": environment(plans["judged"]["device"], threads=max(p["threads"] for p in plans.values())),
    }


def beside(sets: int, cores: int) -> int:
    """How many sets to make at a time, so that no core idles beside the last: 3 take turns on 2 cores, not 2 and then 1."""
    return math.ceil(sets / max(1, sets // cores))


def share(cell: Cell, given: argparse.Namespace) -> None:
    """Trains the experts that all sets of a cell use, on every core: three sets that take turns would leave the fourth to one."""
    asked = {**cell.asked, "ipc": cell.ipc, **compute(given)}
    quick = bool(asked.pop("quick", False))
    settings = scheduled(cell.method, asked, quick=quick, preset=None)
    job = job_of(find(cell.method).kind, data(cell), cell.method, None, settings)
    if needed(job.method) and all(resource.crowd for resource in needed(job.method)):
        real = read(job.source, job.data, progress=Silent()).train
        how = dataclasses.replace(job.plan(real), threads=plan.cores())
        gather(job.method, real, seed=0, plan=how, progress=Silent())


def one(
    cell: Cell, given: argparse.Namespace, number: int, nets: int, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """One of the sets of a cell: how it was made, its score by so many networks, and the most memory of the process."""
    kept = made(cell, given, number)
    score = judged(cell, given, kept, seeds=nets, first_seed=number * nets)
    progress.advance()
    return kept.manifest["lineage"][0], score, memory.peak()


def made(cell: Cell, given: argparse.Namespace, number: int) -> Condensed:
    """One of the sets of a cell."""
    verb = getattr(attar, find(cell.method).kind)
    out = folder(cell, given.work / given.dtype, number)
    return verb(data(cell), method=cell.method, ipc=cell.ipc, seed=number, out=out, **cell.asked, **compute(given))


def judged(cell: Cell, given: argparse.Namespace, kept: Condensed, *, seeds: int, first_seed: int) -> dict[str, Any]:
    """The score of a set with the labels that its recipe names."""
    standard = cell.method in ("dm", "dsa") or cell.data == "cifar10" or cell.quick
    how: dict[str, Any] = {
        "protocol": "dsa" if standard else "dc",
        "seeds": seeds,
        "first_seed": first_seed,
        "nets": cell.net,
        "epochs": cell.epochs,
        "random": False,
        "eight_bit": False,
    }
    scores = attar.evaluate(kept, real=data(cell), **how, **compute(given))
    labels = kept.recipe.get("labels", "hard")
    return next(score for score in scores if score["labels"] == labels)


def over_sets(accuracies: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What the networks on several sets say together.

    Networks that learned one set share its luck, so the interval is that of the sets' means; of one set it can only be over
    networks, and ``interval_over`` says so. ``last_std`` is over all networks, as papers print it.

    Args:
        accuracies: of every set, those of its networks.
    """
    means = [fmean(of_set) for of_set in accuracies]
    found = summary([a for of_set in accuracies for a in of_set])
    if len(means) > 1:
        found["interval"] = summary(means)["interval"]
    return {**found, "interval_over": "sets" if len(means) > 1 else "networks", "set_means": means}


def folder(cell: Cell, work: Path, number: int) -> Path:
    """Where one of the sets of a cell is made."""
    return work / f"{cell.name}-{cell.schedule if cell.quick else cell.steps}" / str(number)


def data(cell: Cell) -> Path:
    """The real data of a cell."""
    return Path(os.environ.get("ATTAR_DATA", HERE.parents[1] / "shared" / "data")) / cell.data


def asking(what: str | None, *, work: Path, out: Path) -> argparse.ArgumentParser:
    """What every benchmark of made sets can be asked.

    Args:
        what: the benchmark's docstring. work: where the sets are made. out: where the rows go.
    """
    parser = argparse.ArgumentParser(description=what.split("\n", 1)[0] if what else None)
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dtype", default="float32", help="of making and judging: float32 or bfloat16")
    parser.add_argument("--compile", action="store_const", const=True, help="short works too")
    parser.add_argument("--work", type=Path, default=work, help="where the sets are made")
    parser.add_argument("--out", type=Path, default=out)
    return parser


def compute(given: argparse.Namespace) -> dict[str, Any]:
    """How sets are made and judged."""
    return {"device": given.device, "threads": given.threads, "dtype": given.dtype, "compile": given.compile}


if __name__ == "__main__":
    ended(main)
