"""Speed of choosing, beside other tools and beside the memory's: ``python benchmarks/choosing.py [--works facility-location]``.

``facility-location``, ``facility-location-greedy``: 1,000 of 10,000 points of Gaussian blobs in 1,024 dimensions, by attar's
lazy greedy in float32 and by apricot's in float64 (``pip install apricot-select numba``), from the features, and from the
similarities. Both maximise sum_i max_{j in S} (1/2 + 1/2 cos(x_i, x_j)): apricot is handed this table, made by one matrix
product, as its own metric ``cosine`` squares the cosines, which is another objective. The two take turns in one process; the
ratio is the median of those of neighbours. What apricot compiles in every call is kept here after the first and told apart, and
so is what attar compiles with ``--compile``. ``--similarities bfloat16`` stores attar's in half precision; the objectives that
are compared are counted in float64 all the same.

``kcenter``, ``herding``: 1,000 of 1,000,000 points of 128 numbers. A pick has to read every number once, so the floor is the
memory's speed: bytes of a pick at the rate of a plain copy, measured in the same process.

``neighbours``: the 10 nearest of each of 1,000,000 points of 64 numbers by an index of faiss, made and searched, at a recall of
.95 that is measured on 1,000 points; and by exact search, of which some rows are timed and the rest is reckoned.

``recorder-train``, ``recorder-eval``: a ConvNet trained on images like CIFAR-10's, with and without the recorder of training
dynamics, batch by batch in turn; and ``recorder-rate``: how many examples a second it takes in, without any training.

Every work has a process of its own. Time nothing beside it; ``--share 0.01`` tries it out on a hundredth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import threadpoolctl
import torch
from alone import answer
from rows import RESULTS, Rows, command, ended, environment

from attar.execute import memory, pairs
from attar.execute.plan import Plan
from attar.real.realset import RealSet
from attar.resources import recording
from attar.resources.dynamics import Dynamics
from attar.resources.graph import Graph
from attar.resources.network import TrainedNetwork
from attar.resources.recorder import Recorder
from attar.run import Descent
from attar.seeds import Seeds
from attar.select.greedy import lazy
from attar.select.herding import follow
from attar.select.kcenter import central, farthest_first
from attar.select.submodular.facility import Facility
from attar.select.submodular.similarity import KINDS, Cosine, Table

CLOSE = 1e-4
"""How far the two objectives may be apart, as a share."""
NET, BATCH, CLASSES, WINDOW, NEAREST = "convnet", 256, 10, 10, 10
Facts = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of a work is done.

    Args:
        n: examples. width: numbers of each. picks: that are kept. rounds: how often it is done, where pairs are timed.
    """

    n: int
    width: int
    picks: int
    rounds: int

    def scaled(self, share: float) -> Size:
        """A part of the examples and picks, to try it out."""
        picks = min(self.picks, max(4, int(self.picks * share)))  # none of none
        return Size(max(64, int(self.n * share)), self.width, picks, self.rounds)


def blobs(size: Size, centres: int = 100, spread: float = 0.5) -> torch.Tensor:
    """Gaussian blobs: float32 [n, width]."""
    g = torch.Generator().manual_seed(0)
    middle = torch.randn(centres, size.width, generator=g)
    x = torch.empty(size.n, size.width).normal_(generator=g).mul_(spread)
    for part in torch.arange(size.n).split(1 << 16):
        x[part] += middle[torch.randint(centres, (len(part),), generator=g)]
    return x


def facility(size: Size, *, whole: bool, kind: str, compiled: bool) -> Facts:
    """Facility location beside apricot.

    Args:
        whole: from the features to the picks; else from the similarities.
        kind: what attar stores similarities in. compiled: whether attar compiles its gains.
    """
    x = blobs(size)
    wide, table = x.double().numpy(), Table(Cosine(x, kind))
    similar = similarities(wide)

    def ours() -> np.ndarray:
        with Plan(threads=torch.get_num_threads(), compiled=compiled).applied():
            return lazy(Facility(Table(Cosine(x, kind)) if whole else table), size.picks)[0].numpy()

    def theirs() -> np.ndarray:
        return apricot(similarities(wide) if whole else similar, size.picks)

    first, _ = timed(theirs)
    mine, _ = timed(ours)
    a, b, picks = [], [], {}
    for i in range(size.rounds):
        for name, work, times in (("apricot", theirs, a), ("attar", ours, b)):
            took, picks[name] = timed(work)
            times.append(took)
        print(f"  {i + 1} of {size.rounds}: {a[-1]:.2f} s and {b[-1]:.2f} s", flush=True)
    values = {name: float(similar[:, some].max(1).sum()) for name, some in picks.items()}
    apart = abs(values["attar"] - values["apricot"]) / values["apricot"]
    assert apart <= CLOSE, f"the objectives differ by {apart:.2g}: {values}"
    same = len(np.intersect1d(picks["attar"], picks["apricot"])) / size.picks
    ratios = sorted(p / q for p, q in zip(a, b))
    return {
        "beside": "apricot",
        "other_seconds": statistics.median(a),
        "seconds": statistics.median(b),
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
        "other_compile_seconds": max(0.0, first - statistics.median(a)),
        "compile_seconds": max(0.0, mine - statistics.median(b)) if compiled else 0.0,
        "objective": values,
        "objectives_apart": apart,
        "same_picks": same,
    }


def similarities(x: np.ndarray) -> np.ndarray:
    """1/2 + 1/2 cos of all pairs: float64 [n, D] -> [n, n], one product, no more copies than that."""
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = z @ z.T
    s *= 0.5
    s += 0.5
    return s


def apricot(similar: np.ndarray, k: int) -> np.ndarray:
    """Its picks, in order. It would compile its functions in every call; here the compiled ones are kept, in its favour."""
    from apricot import FacilityLocationSelection
    from apricot.functions import facilityLocation as place

    for name in ("calculate_gains", "calculate_gains_sieve"):
        if not hasattr(getattr(place, name), "cache_info"):
            setattr(place, name, lru_cache(getattr(place, name)))
    return np.asarray(FacilityLocationSelection(k, metric="precomputed", optimizer="lazy").fit(similar).ranking)


def greedy(size: Size, *, method: str, compiled: bool) -> Facts:
    """A greedy choice that reads all features at every pick; its first two picks, which compile, are made before."""
    x = blobs(size, centres=1000)
    before = memory.peak()
    works: dict[str, Callable[[int], Any]] = {
        "herding": lambda k: follow(x.sub_(x.mean(0)), k),  # in place, as the method does
        "kcenter": lambda k: farthest_first(x, k, central(x)),
    }
    with Plan(threads=torch.get_num_threads(), compiled=compiled).applied():
        first, _ = timed(partial(works[method], 2))
        took, picks = timed(partial(works[method], size.picks))
    above = memory.peak() - before
    assert len(picks[0].unique()) == size.picks
    rate = copy_rate()  # after the work, whose peak its two tensors would hide
    read = 4 * size.n * (size.width + 1)  # the features, and one number of each example
    return {
        "seconds": took,
        "first_picks_seconds": first,
        "picks_per_second": size.picks / took,
        "bytes_per_pick": read,
        "copy_bytes_per_second": rate,
        "fraction_of_copy": read * size.picks / took / rate,
        "features_bytes": 4 * size.n * size.width,
        "memory_above_features": above,
    }


def copy_rate() -> float:
    """Bytes a second that a copy of 512 MiB reads and writes."""
    a, b = torch.ones(1 << 27), torch.empty(1 << 27)
    return max(2 * 4 * len(a) / timed(lambda: b.copy_(a))[0] for _ in range(5))


def neighbours(size: Size) -> Facts:
    """The graph of nearest neighbours."""
    x = blobs(size, centres=1000)
    n, res = size.n, {"features": {"features": x}}
    real = RealSet(name="blobs", table=pa.table({}), images=None, rows=torch.arange(n), ids=torch.arange(n))
    graph = Graph(k=NEAREST, search="approximate")
    state = graph.init(real, None, Seeds(), res)
    took = []
    for step in range(graph.length(real)):  # the index with the first block, the other blocks, then the recall
        began = time.perf_counter()
        state = graph.step(state, graph.draw(real, Seeds(), res, step), Descent(graph, 1))
        took.append(time.perf_counter() - began)
    some = torch.randperm(n, generator=torch.Generator().manual_seed(1))[: min(4096, n)]
    exact = timed(lambda: pairs.closest(x[some], x, NEAREST, own=some))[0]
    return {
        "seconds": sum(took[:-1]),
        "recall": float(state["recall"]),
        "recall_seconds": took[-1],
        "exact_rows": len(some),
        "exact_rows_seconds": exact,
        "other_seconds": exact * n / len(some),
        "beside": "exact, reckoned from some rows",
        "ratio": exact * n / len(some) / sum(took[:-1]),
    }


def recorder(size: Size, *, view: str, net: str, compiled: bool) -> Facts:
    """Training with the recorder beside training without it, the same batches in turn."""
    real = pictures(size)
    with Plan(threads=torch.get_num_threads(), compiled=compiled).applied():
        how = {"net": net, "batch": min(BATCH, size.n), "epochs": size.rounds + WINDOW}
        plain, watched = course(TrainedNetwork(**how), real), course(Dynamics(**how, view=view, window=WINDOW), real)
        steps = -(-size.n // how["batch"])
        plain(0)  # compiling and first calls
        watched(0)
        a, b = [], []
        for i in range(size.rounds):
            turn = range(i * steps, i * steps + steps)
            took = [(timed(partial(plain, t))[0], timed(partial(watched, t))[0]) for t in turn]
            a.append(sum(p for p, _ in took))
            b.append(sum(q for _, q in took))
            print(f"  {i + 1} of {size.rounds}: {a[-1]:.2f} s, recorded {b[-1]:.2f} s", flush=True)
    overhead = sorted(100 * (q / p - 1) for p, q in zip(a, b))
    return {
        "net": net,
        "compiled": compiled,
        "other_seconds": statistics.median(a),
        "beside": "without the recorder",
        "seconds": statistics.median(b),
        "overhead_percent": statistics.median(overhead),
        "overhead_range": [overhead[0], overhead[-1]],
    }


def course(task: TrainedNetwork, real: RealSet) -> Callable[[int], object]:
    """One step of a resource's training, as the loop does it."""
    state = task.init(real, None, Seeds().at("init"), {})
    for name, opt in task.learned(state).items():
        state |= opt.slots(name, state[name])
    descent = Descent(task, task.length(real), losses=[[]])

    def step(t: int) -> None:
        here = Seeds().at("step", t)
        descent.done = t
        task.step(state, task.draw(real, here, {}, t), descent)
        descent.losses[0].clear()

    return step


def pictures(size: Size) -> RealSet:
    """Random images of CIFAR-10's shape."""
    g, n = torch.Generator().manual_seed(0), size.n
    images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=g)
    table = pa.table({"label": (torch.arange(n) % CLASSES).numpy()})
    names = tuple(f"class {k}" for k in range(CLASSES))
    return RealSet(
        name="noise",
        table=table,
        images=images,
        rows=torch.arange(n),
        ids=torch.arange(n),
        class_names=names,
        mean=(0.5,) * 3,
        std=(0.3,) * 3,
    )


def rate(size: Size) -> Facts:
    """Epochs of logits that the recorder takes in, batch by batch."""
    g = torch.Generator().manual_seed(0)
    watching = Recorder(size.n, window=WINDOW)
    logits = torch.randn(BATCH, CLASSES, generator=g)
    targets = torch.randint(CLASSES, (BATCH,), generator=g)

    def epoch() -> None:
        for rows in torch.randperm(size.n, generator=g).split(BATCH):
            watching.update(rows, logits[: len(rows)], targets[: len(rows)])
        watching.end_epoch()

    took = [timed(epoch)[0] for _ in range(size.rounds)]
    return {
        "seconds": statistics.median(took),
        "updates_per_second": size.n / statistics.median(took),
        "updates_range": [size.n / max(took), size.n / min(took)],
        "batch": BATCH,
        "bytes_per_example": recording.size(window=WINDOW),
    }


WORKS: dict[str, tuple[str, Size, Callable[..., Facts]]] = {
    "facility-location": (
        "facility location, from features",
        Size(10_000, 1024, 1000, 5),
        partial(facility, whole=True),
    ),
    "facility-location-greedy": (
        "facility location, from similarities",
        Size(10_000, 1024, 1000, 5),
        partial(facility, whole=False),
    ),
    "kcenter": ("k-center", Size(1_000_000, 128, 1000, 1), partial(greedy, method="kcenter")),
    "herding": ("herding", Size(1_000_000, 128, 1000, 1), partial(greedy, method="herding")),
    "neighbours": ("graph of 10 neighbours, index", Size(1_000_000, 64, 0, 1), neighbours),
    "recorder-train": ("recorder, optimisation forward", Size(2560, 3072, 0, 7), partial(recorder, view="train")),
    "recorder-eval": ("recorder, forward of its own", Size(2560, 3072, 0, 7), partial(recorder, view="eval")),
    "recorder-rate": ("recorder, updates alone", Size(1_000_000, 0, 0, 3), rate),
}
"""Name -> what it is, how much of it, and the work."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def work(name: str, size: Size, threads: int, more: dict[str, Any], found: Any) -> None:
    """Does one work in this process, and sends its facts; None where it failed."""
    facts = None
    try:
        torch.set_num_threads(threads)
        threadpoolctl.threadpool_limits(threads)  # numpy's products
        memory.keep()
        if name.startswith("facility"):
            import numba

            numba.set_num_threads(min(threads, numba.get_num_threads()))
        facts = {**WORKS[name][2](size, **more), "peak_memory": memory.peak(), "environment": environment()}
    finally:
        found.put(facts)


def main() -> None:
    """Does the works that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of examples and picks, to try it out")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--net", default=NET, help="that the recorder watches")
    parser.add_argument("--similarities", choices=KINDS, default=KINDS[0], help="of facility location")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=False, help="gains, and training that is recorded"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "choosing.jsonl")
    given = parser.parse_args()
    rows = Rows(given.out)
    for name in given.works.split(","):
        what, size, _ = WORKS[name]
        size = size.scaled(given.share)
        size = Size(size.n, size.width, size.picks, given.rounds or size.rounds)
        more: dict[str, Any] = {}
        if name in ("recorder-train", "recorder-eval"):
            norm = ":norm=batch" if name == "recorder-eval" else ""  # without it there is no forward of its own
            more = {"net": given.net + norm, "compiled": given.compile}
        if name in ("kcenter", "herding"):
            more = {"compiled": given.compile}
        if name.startswith("facility"):
            more = {"kind": given.similarities, "compiled": given.compile}
        key = {"work": name, **vars(size), "threads": given.threads, **more}
        if rows.find(**key):
            continue
        print(what, flush=True)
        facts = answer(work, name, size, given.threads, more)
        if facts is None:
            raise SystemExit(f"{name} failed; its error stands above")
        rows.put({"what": what, **facts, "command": command(), "seed": 0}, **key)
        print({k: v for k, v in facts.items() if k != "environment"}, flush=True)


if __name__ == "__main__":
    ended(main)
