"""What a chosen part of the training set teaches: ``python benchmarks/selection.py [--cells cifar10-ccs-0.1]``.

CIFAR-10, ResNet-8: random examples and twelve methods at four shares. All trainings have as many steps of as many images,
whatever is kept, so that a small part is seen more often; the published tables train for as many epochs, or for 40,000 steps
on a ResNet-18, so these rows compare methods with each other and with no published figure. Fashion-MNIST, ConvNet: Dyn-Unc
at three quarters beside the full set, and CCS beside the hardest by AUM at a tenth, random beside both.

One network is watched while it is trained on all examples. Its signals, and its features and answers at the end, serve every
method; on Fashion-MNIST there is one for each seed. Chance in a method, and first weights, orders and crops of a judged
training come from the seed. The last accuracy counts; the best of the looks stands beside it, as published tables report that
one. Nothing is chosen by either. Killed, it goes on after the last training that was done.

The twelve come from every family, where the published tables set one against the other. Dynamics: hardest first (``el2n``,
``forgetting``, ``aum``), uncertain first (``dyn-unc``), and the same with the very hard left out or made rare (``ccs``,
``dual``); ``entropy`` for uncertainty; coverage (``kcenter``, ``herding``, ``moderate``); ``graph-cut``, which leads the
published tables where least is kept, and so stands for ``facility-location`` too; ``d2``, which joins difficulty and coverage.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from rows import HERE, RESULTS, Rows, command, commit, ended, environment
from torch.nn.functional import pad

from attar import registry
from attar.budget import Budget
from attar.evaluate.optimiser import Sgd
from attar.evaluate.rates import cosine
from attar.evaluate.scores import summary
from attar.evaluate.train import accuracy
from attar.execute import memory
from attar.execute.pieces import features, logits, weight_gradient
from attar.execute.plan import Plan
from attar.execute.progress import Silent
from attar.method import Batch, Descend, Resources, State
from attar.nets import Net, Params
from attar.nets.fit import net_of
from attar.real.load import load
from attar.real.realset import RealSet
from attar.resources import recording
from attar.resources.build import gather
from attar.resources.dynamics import Dynamics
from attar.resources.graph import Graph
from attar.resources.network import params_of
from attar.resources.resource import Resource
from attar.run import Descent
from attar.seeds import Seeds

TWELVE = ("ccs", "aum", "el2n", "forgetting", "dual", "dyn-unc", "entropy", "kcenter", "herding", "moderate",
          "graph-cut", "d2")  # fmt: skip
SHARES = (0.1, 0.01, 0.3, 0.7)
CUTOFF = {0.01: 0.3, 0.1: 0.3, 0.3: 0.1, 0.7: 0.0}
"""Share kept -> share of the hardest that CCS leaves out; the authors' for a tenth, ours for the others."""
STRATA = "d2:strata"
"""D2 in strata and without the hardest, by its authors' call for a tenth of CIFAR-10."""
MARGIN = 4
"""Pixels that a crop may move; mirrored pixels come in."""
BLOCK = 128
NEIGHBOURS = 5


@dataclass(frozen=True)
class Lessons:
    """How the networks of a data set are trained.

    Args:
        steps: of a judged training; about three minutes on one core. batch: images of a step. lr: along a cosine, to 0.
        watched_lr: of the network that is watched.
    """

    net: str
    steps: int
    lr: float
    watched_lr: float
    batch: int = 128


LESSONS = {
    "cifar10": Lessons("resnet8", 700, 0.1, 0.05),
    "fashion_mnist": Lessons("convnet:width=32", 1500, 0.02, 0.02),
}


@dataclass(frozen=True)
class Cell:
    """One figure.

    Args:
        keep: share of the training set. seeds: trainings. watched: networks that are watched; seed s has the (s mod watched)-th.
    """

    data: str
    method: str
    keep: float
    seeds: int
    watched: int = 1

    @property
    def name(self) -> str:
        return f"{self.data}-{self.method}-{self.keep:g}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the method that are not its defaults, beside the network."""
        if self.method in ("random", "full"):
            return {}
        if self.method == "ccs":
            return {"rule": f"ccs:strata=50:cutoff={CUTOFF[self.keep]:g}"}
        if self.method == "el2n":
            return {"runs": 1, "at": "all"}
        if self.method in ("kcenter", "herding", "moderate", "graph-cut", "d2"):
            return {"features": "trained"}
        if self.method == STRATA:
            return {"features": "trained", "difficulty": "forgetting", "cutoff": 0.4, "strata": 25}
        return {"runs": 1} if self.method == "forgetting" else {}


def cells() -> list[Cell]:
    """All, the most telling first: a tenth, random before the methods."""
    found = [
        Cell("cifar10", method, keep, 3 if keep <= 0.1 else 1) for keep in SHARES for method in ("random", *TWELVE)
    ]
    fashion = [("random", 0.1), ("ccs", 0.1), ("aum", 0.1), ("full", 1.0), ("dyn-unc", 0.75), ("random", 0.75)]
    few = [Cell("cifar10", STRATA, keep, 3) for keep in SHARES if keep <= 0.1]
    return [*found[:13], *(Cell("fashion_mnist", m, k, 5, watched=5) for m, k in fashion), *found[13:], *few]


@dataclass(frozen=True, kw_only=True)
class Watched(Dynamics):
    """The signals of a training, and its last weights as ``weight.NAME``."""

    @property
    def name(self) -> str:  # type: ignore[override]  # as in Dynamics
        """Not the name of the signals alone."""
        return f"watched-{self.number}"

    def finish(self, state: State, res: Resources) -> State:
        """Signals [N] each, and weights."""
        return super().finish(state, res) | {f"weight.{k}": v for k, v in params_of(state).items()}


@dataclass(frozen=True, kw_only=True)
class Seen(Resource):
    """What the watched network says of every example at the end: ``features`` [N, D], ``logits`` [N, K]."""

    watched: Watched = field(default_factory=Watched)

    @property
    def name(self) -> str:  # type: ignore[override]  # one of each watched network
        """Beside the name of the network."""
        return f"seen-{self.watched.number}"

    def needs(self) -> tuple[Watched, ...]:
        """The network."""
        return (self.watched,)

    def length(self, real: RealSet) -> int:
        """A block a step."""
        return -(-len(real) // BLOCK)

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Room for all rows."""
        net = net_of(self.watched.net, real)
        x = features(net, net.init(Seeds()), real.draw(torch.arange(1)), train=False)
        return {"features": torch.zeros(len(real), x.shape[1]), "logits": torch.zeros(len(real), real.n_classes)}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """One block."""
        index = torch.arange(step * BLOCK, min((step + 1) * BLOCK, len(real)))
        net, params = net_of(self.watched.net, real), weights(res[self.watched.name])
        x = real.draw(index)
        found = {"features": features(net, params, x, train=False), "logits": logits(net, params, x)}
        return {"index": index, **found}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """Writes the block into its rows."""
        for name in ("features", "logits"):
            state[name][batch["index"]] = batch[name]
        return state

    def finish(self, state: State, res: Resources) -> State:
        """All rows."""
        return dict(state)


def weights(state: State) -> Params:
    """The weights in what :class:`Watched` kept."""
    return {k.removeprefix("weight."): v for k, v in state.items() if k.startswith("weight.")}


def known(real: RealSet, number: int, given: argparse.Namespace, lessons: Lessons, plan: Plan) -> dict[str, State]:
    """What methods may ask for, by the names under which they look: from the cache, or made."""
    watched = Watched(
        net=lessons.net,
        epochs=given.watched_epochs,
        window=given.window,
        lr=lessons.watched_lr,
        batch=lessons.batch,
        number=number,
    )
    seen = Seen(watched=watched)
    task = argparse.Namespace(needs=lambda: (seen,))
    res = gather(task, real, seed=0, plan=plan, progress=Silent())
    signals = {k: v for k, v in res[watched.name].items() if not k.startswith("weight.")}
    found = {"dynamics-0": signals, "features": {"features": res[seen.name]["features"]}}
    answers = recording.facts(res[seen.name]["logits"], real.labels)
    return {**found, "outputs": {"entropy": answers["entropy"]}}


def neighbours(real: RealSet, res: dict[str, State]) -> State:
    """The graph of D2: neighbours of the same class."""
    graph = Graph(k=NEIGHBOURS, within=True, source="trained", net="resnet8")
    state = graph.init(real, None, Seeds(), res)
    for step in range(graph.length(real)):
        state = graph.step(state, graph.draw(real, Seeds(), res, step), Descent(graph, 1))
    return graph.finish(state, res)


def chosen(cell: Cell, real: RealSet, res: dict[str, State], seed: int, lessons: Lessons, window: int) -> torch.Tensor:
    """The rows that a method keeps: int64 [M]."""
    if cell.method == "full":
        return torch.arange(len(real))
    kind = registry.find(cell.method.partition(":")[0])
    more = {k: v for k, v in {"net": lessons.net, "window": window}.items() if k in kind.__dataclass_fields__}
    if cell.method == "d2":
        res = {**res, "graph": neighbours(real, res)}
    state = kind(**cell.settings, **more).init(real, Budget(fraction=cell.keep), Seeds(seed).at("init"), res)
    return state["picked"]


def judged(
    net: Net, real: RealSet, rows: torch.Tensor, test: RealSet, *, lessons: Lessons, steps: int, looks: int, seed: int
) -> list[float]:
    """Test accuracies of a network trained on some rows, at the last looks; the last one is that of the end."""
    seeds = Seeds(seed).at("judged")
    params, rule = net.init(seeds.at("init")), Sgd(net.trainable, 0.9, 5e-4)
    moments, size = rule.start(params), min(lessons.batch, len(rows))
    at = {steps - j * max(1, steps // 5) for j in range(looks)}
    found, crops = [], seeds.generator("crops")
    for t, places in enumerate(stream(len(rows), size, steps, seeds)):
        index = rows[places]
        x, y = cropped(real.draw(index), crops), real.labels[index]
        _, grads = weight_gradient(net, params, x, y, torch.full((size,), 1 / size), size=size)
        rule.update(params, moments, grads, lessons.lr * cosine(0, t / steps, 1))
        if t + 1 in at:
            found.append(accuracy(net, params, test))
    return found


def stream(n: int, size: int, steps: int, seeds: Seeds) -> Iterator[torch.Tensor]:
    """Equal batches out of one shuffled pass after the other: int64 [size] each, places below n."""

    @lru_cache(maxsize=2)
    def order(epoch: int) -> torch.Tensor:
        return torch.randperm(n, generator=seeds.generator("order", epoch))

    for t in range(steps):
        place = torch.arange(t * size, (t + 1) * size)
        first = int(place[0]) // n
        last = int(place[-1]) // n
        yield torch.cat([order(e)[place[place // n == e] % n] for e in range(first, last + 1)])


def cropped(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every image moved by up to 4 pixels and mirrored by chance: [B, C, H, W] -> [B, C, H, W]."""
    n, c, h, w = x.shape
    shift = torch.randint(2 * MARGIN + 1, (2, n, 1), generator=generator)
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    down, across = shift[0] + torch.arange(h), shift[1] + torch.arange(w)  # [B, H], [B, W]
    across = torch.where(mirror, across.flip(1), across)
    wide = pad(x, (MARGIN,) * 4, mode="reflect")
    image, channel = torch.arange(n)[:, None, None, None], torch.arange(c)[None, :, None, None]
    return wide[image, channel, down[:, None, :, None], across[:, None, None, :]]


def main() -> None:
    """Measures the trainings that are not in a row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--cells", default=",".join(c.name for c in cells()))
    parser.add_argument("--steps", type=int, default=None, help="of a judged training; the same for all shares")
    parser.add_argument("--seeds", type=int, default=None, help="trainings of a cell; 3 up to a tenth, then 1")
    parser.add_argument("--looks", type=int, default=3, help="looks at the test set, a fifth of the steps apart")
    parser.add_argument("--watched-epochs", type=int, default=10)
    parser.add_argument("--window", type=int, default=5, help="epochs of a window of Dyn-Unc and DUAL")
    parser.add_argument("--examples", type=int, default=None, help="at most so many of both splits, to try it out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "selection.jsonl")
    given = parser.parse_args()
    rows, wanted = Rows(given.out), given.cells.split(",")
    for cell in sorted((c for c in cells() if c.name in wanted), key=lambda c: wanted.index(c.name)):
        measure(cell, given, rows)


def measure(cell: Cell, given: argparse.Namespace, rows: Rows) -> None:
    """Trains until the cell has its seeds; the row is written after each."""
    lessons, plan = LESSONS[cell.data], Plan(threads=given.threads, compiled=given.compile)
    steps = given.steps or lessons.steps
    key = {"cell": cell.name, "steps": steps, "watched_epochs": given.watched_epochs, "window": given.window}
    key |= {"looks": given.looks, "examples": given.examples, "network": lessons.net, "lr": lessons.lr}
    key |= {"threads": given.threads, "compiled": given.compile}
    row = rows.find(**key) or {"accuracies": [], "best": [], "choose_seconds": [], "train_seconds": [], "commits": []}
    for seed in range(len(row["accuracies"]), given.seeds or cell.seeds):
        real, test = splits_of(cell.data, given.examples)
        res = {} if cell.method in ("random", "full") else kept(cell, seed % cell.watched, given, plan)
        with plan.applied():
            began = time.monotonic()
            picked = chosen(cell, real, res, seed, lessons, given.window)
            chose = time.monotonic() - began
            how = {"lessons": lessons, "steps": steps, "looks": given.looks, "seed": seed}
            found = judged(net_of(lessons.net, real), real, picked, test, **how)
            where = environment()  # as long as the plan holds
        took = {"choose_seconds": chose, "train_seconds": time.monotonic() - began - chose}
        parts = {"accuracies": found[-1], "best": max(found), **took, "commits": commit()}
        row = {**row, **{k: [*row[k], v] for k, v in parts.items()}}
        row |= {**facts(cell, lessons, len(picked), steps), **summary(row["accuracies"])}
        row |= {"best_mean": sum(row["best"]) / len(row["best"]), "peak_memory": memory.peak()}
        row |= {"command": command(), "environment": where, "plan": plan.facts()}
        rows.put(row, **key)
        print(f"{cell.name}, seed {seed}: last {found[-1]:.4f}, best {max(found):.4f}", flush=True)


def facts(cell: Cell, lessons: Lessons, kept: int, steps: int) -> dict[str, Any]:
    """What a row must tell of how it was made."""
    batch = min(lessons.batch, kept)
    return {
        "data": cell.data,
        "method": cell.method,
        "keep": cell.keep,
        "rows": kept,
        "settings": cell.settings,
        "balanced": cell.method != "full",
        "batch": batch,
        "passes": steps * batch / kept,
        "watched_networks": cell.watched,
        "watched_lr": lessons.watched_lr,
    }


@lru_cache(maxsize=1)
def splits_of(data: str, examples: int | None) -> tuple[RealSet, RealSet]:
    """Training and test examples."""
    splits = load(Path(os.environ.get("ATTAR_DATA", HERE.parents[1] / "shared" / "data")) / data)
    if examples is None:
        return splits.train, splits.test
    train, test = (s.subset(torch.arange(0, len(s), -(-len(s) // examples))) for s in (splits.train, splits.test))
    return train, test


_KEPT: dict[tuple[str, int], dict[str, State]] = {}


def kept(cell: Cell, number: int, given: argparse.Namespace, plan: Plan) -> dict[str, State]:
    """What methods may ask for, held for the next cell."""
    if (cell.data, number) not in _KEPT:
        _KEPT.clear()
        real, _ = splits_of(cell.data, given.examples)
        _KEPT[cell.data, number] = known(real, number, given, LESSONS[cell.data], plan)
    return _KEPT[cell.data, number]


if __name__ == "__main__":
    ended(main)
