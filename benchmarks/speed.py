"""attar beside the official steps, pair by pair: ``python benchmarks/speed.py [--pairs dm,dc] [--dtypes float32]``.

CIFAR-10, ConvNet-3 of width 128, 10 images per class, 256 real images per class and step. The twin (``tests/twins``) and
attar take turns; the row quotes the median of the ratios of neighbours. Compiling is reported apart, and in the ratio of the
whole published run. The floor is the work's floating-point operations at the faster rate of two, in attar's precision and the
same process: of a matrix product of 2048 x 2048, and of the network's largest convolution alone.

The twin has a process of its own, as official code has: in attar's it would find memory that attar keeps, at up to twice its
speed. A second one, whose C library is told to keep freed memory too, shows what of the ratio is not memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "twins"))

import official
import official_matching
from rows import RESULTS, Rows, command, ended, environment

from attar.budget import Budget
from attar.distill.dc import DC
from attar.distill.dm import DM
from attar.distill.dsa import DSA
from attar.distill.idc import IDC
from attar.distill.idm import IDM
from attar.distill.mtt import MTT
from attar.evaluate.protocol import Protocol
from attar.evaluate.train import accuracy, train
from attar.execute.plan import DTYPES, Plan
from attar.match import inner
from attar.method import Method, Resources, State
from attar.nets.fit import net_of
from attar.real.load import load
from attar.run import Descent
from attar.seeds import Seeds

NET, WIDTH, DEPTH, IPC, BATCH = "convnet", 128, 3, 10, 256
BATCH_IDC, UNROLLED = 64, 4
STRATEGY = "color_crop_cutout_flip_scale_rotate"
TWICE = 7
"""Forwards of an image that its gradient through a gradient takes: 1, 2 for the gradient for the weights, 4 through that one."""
EPOCHS, TESTED = 10, 334
"""A thirtieth of an evaluation of 300 epochs: 10 epochs of training and as much of the 10,000 test images."""


@dataclass(frozen=True)
class Pair:
    """Two ways to do the same work.

    Args:
        twin, fast: do it once. macs: multiply-adds of it. whole: how often the published run does it.
        cosine: of the gradients in this precision and in float32, where that can be asked.
    """

    twin: Callable[[], object]
    fast: Callable[[], object]
    macs: float
    whole: int
    cosine: Callable[[], float] | None = None


@dataclass(frozen=True)
class Bench:
    """What all pairs need.

    Args:
        plan: how attar computes.
    """

    plan: Plan

    @cached_property
    def real(self):
        """The training images of CIFAR-10."""
        root = Path(os.environ.get("ATTAR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
        return load(root / "cifar10").train.on(self.plan.device)

    @cached_property
    def test(self):
        """As many training images as a thirtieth of the test split has."""
        return self.real.subset(torch.arange(0, len(self.real), len(self.real) // TESTED)[:TESTED])

    @cached_property
    def source(self) -> official.Source:
        """The same as one float tensor."""
        classes = [c.cpu().numpy() for c in self.real.classes]
        return official.Source(self.real.draw(torch.arange(len(self.real))), classes)

    @cached_property
    def net(self):
        """attar's network."""
        return net_of(NET, self.real)

    def fresh(self):
        """The twin's network."""
        return official.fresh(self.source, width=WIDTH, depth=DEPTH)

    def start(self, method: Method, ipc: int = IPC) -> State:
        """The first state of a run."""
        state = method.init(self.real, Budget(ipc=ipc), Seeds(0).at("init"), {})
        for name, opt in method.learned(state).items():
            state |= opt.slots(name, state[name])
        return {k: v.to(self.plan.device) for k, v in state.items()}

    def stepping(self, method: Method, *ipcs: int, res: Resources | None = None) -> Callable[[], object]:
        """The draw of a step and, for every budget, the update of the kept images; without the training of networks."""
        states, step = [self.start(method, ipc) for ipc in ipcs], iter(range(10**9))
        descent = Descent(method, 10**9, losses=[[] for _ in states])

        def once() -> None:
            i = next(step)
            batch = method.draw(self.real, Seeds(0).at("step", i), res or {}, i)
            for k, state in enumerate(states):
                descent.current = k
                net = {f"net.{name}": v for name, v in batch["net"].items()} if "net.body.0.weight" in state else {}
                states[k] = descent({**state, **net}, method.loss, batch)

        return self.planned(once)

    def twin_step(self, step: Callable[..., float], lr: float, strategy: str) -> Callable[[], object]:
        """The official update of the kept images."""
        kept = self.start(DM(net=NET))["image"].clone().requires_grad_()
        optimiser = torch.optim.SGD([kept], lr=lr, momentum=0.5)
        return lambda: step(self.source, kept, optimiser, batch=BATCH, strategy=strategy, net=self.fresh())

    def planned(self, work: Callable[[], object]) -> Callable[[], object]:
        """The work under the plan."""

        def under() -> None:
            with self.plan.applied():
                work()

        return under

    def gradient(self, method: Method, dtype: str, res: Resources) -> torch.Tensor:
        """The gradient of the kept images in the first step, in some precision."""
        state = self.start(method)
        with Plan(device=self.plan.device, threads=self.plan.threads, dtype=dtype).applied():
            batch = method.draw(self.real, Seeds(0).at("step", 0), res, 0)
            leaf = state["image"].clone().requires_grad_()
            net = {f"net.{name}": v for name, v in batch["net"].items()} if "net.body.0.weight" in state else {}
            return torch.autograd.grad(method.loss({**state, **net, "image": leaf}, batch), leaf)[0].flatten()

    def cosine(self, method: Method, res: Resources | None = None) -> Callable[[], float]:
        """Between the gradients in the plan's precision and in float32."""

        def measured() -> float:
            half, full = (self.gradient(method, dtype, res or {}) for dtype in (self.plan.dtype, "float32"))
            return float(torch.cosine_similarity(half, full, dim=0))

        return measured


def dm(b: Bench) -> Pair:
    """DM: a step with siamese augmentation."""
    method = DM(net=NET, batch=BATCH, augment=STRATEGY)
    macs = b.net.macs * (10 * BATCH + 3 * 10 * IPC)
    return Pair(b.twin_step(official.dm_step, 1.0, STRATEGY), b.stepping(method, IPC), macs, 20_000, b.cosine(method))


def dc(b: Bench) -> Pair:
    """DC: the matching of gradients."""
    method = DC(net=NET, batch=BATCH, start="real")
    macs = b.net.macs * (3 * 10 * BATCH + TWICE * 10 * IPC)
    return Pair(
        b.twin_step(official.gradient_step, 0.1, "none"), b.stepping(method, IPC), macs, 10_000, b.cosine(method)
    )


def dsa(b: Bench) -> Pair:
    """DSA: the same under siamese augmentation."""
    method = DSA(net=NET, batch=BATCH, augment=STRATEGY)
    macs = b.net.macs * (3 * 10 * BATCH + TWICE * 10 * IPC)
    return Pair(
        b.twin_step(official.gradient_step, 0.1, STRATEGY), b.stepping(method, IPC), macs, 10_000, b.cosine(method)
    )


def training(b: Bench) -> Pair:
    """DC: five epochs of the inner training."""
    state = b.start(DM(net=NET))
    twin, params = b.fresh(), b.net.init(Seeds(0), b.plan.device)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.01)

    def official_epochs() -> None:
        for _ in range(5):
            official.train_epoch(state["image"], state["label"], twin, optimiser)

    def ours() -> None:
        how: dict[str, Any] = {"epochs": 5, "lr": 0.01, "batch": 256, "strategy": "none", "seeds": Seeds(0)}
        inner.train(b.net, params, state["image"], state["label"], **how)

    return Pair(official_epochs, b.planned(ours), b.net.macs * 3 * 5 * 10 * IPC, 9 * 10 * 1000)


def evaluation(b: Bench) -> Pair:
    """Evaluation: a thirtieth of the training and test of one network, DSA augmentation."""
    state, protocol = b.start(DM(net=NET)), Protocol(name="dsa", epochs=EPOCHS - 1, augment=f"dsa:{STRATEGY}")

    @torch.no_grad()
    def tested(net: torch.nn.Module) -> float:
        x, y = b.source.images[:TESTED], b.real.labels[:TESTED].to(b.plan.device)
        return sum(int((net(p).argmax(1) == q).sum()) for p, q in zip(x.split(256), y.split(256))) / TESTED

    def twin() -> None:
        net = b.fresh()
        official.train(state["image"], state["label"], net, epochs=300, strategy=STRATEGY, stop=EPOCHS)
        tested(net)

    def ours() -> None:
        params = train(b.net, state["image"], state["label"], protocol=protocol, seeds=Seeds(0))
        accuracy(b.net, params, b.test)

    return Pair(twin, b.planned(ours), b.net.macs * (3 * EPOCHS * 10 * IPC + TESTED), 150)


def budgets(b: Bench) -> Pair:
    """DM: 50 images per class alone (in the twin's place), and 1, 10 and 50 in one run."""
    method = DM(net=NET, batch=BATCH, augment=STRATEGY)
    macs = b.net.macs * (10 * BATCH + 3 * 10 * 61)
    return Pair(b.stepping(method, 50), b.stepping(method, 1, 10, 50), macs, 20_000)


def idc(b: Bench) -> Pair:
    """IDC: the matching of gradients of tiled images."""
    method = IDC(net=NET, batch=BATCH_IDC)
    state, strategy = b.start(method), method.augment
    kept = state["image"].clone().requires_grad_()
    optimiser = torch.optim.SGD([kept], lr=method.lr_img, momentum=method.momentum)
    how = {
        "batch": BATCH_IDC,
        "factor": method.factor,
        "strategy": strategy,
        "mean": state["mean"],
        "std": state["std"],
    }
    macs = b.net.macs * (3 * 10 * BATCH_IDC + TWICE * 10 * IPC * method.factor**2)

    def twin() -> None:
        official_matching.idc_step(b.source, kept, optimiser, net=b.fresh(), **how)

    method = dataclasses.replace(method, outer=1)
    return Pair(twin, b.stepping(method, IPC), macs, 200_000, b.cosine(method))


def idm(b: Bench) -> Pair:
    """IDM: the matching of features and the cross entropy under a trained network."""
    method = IDM(net=NET, batch=BATCH, augment=STRATEGY, queue=4)
    kept = b.start(method)["image"].clone().requires_grad_()
    optimiser = torch.optim.SGD([kept], lr=method.lr_img)
    how = {"batch": BATCH, "strategy": STRATEGY, "trust": 25.0}

    def twin() -> None:
        official_matching.idm_step(b.source, kept, optimiser, net=b.fresh(), **how)

    method = dataclasses.replace(method, teach="kept")
    return Pair(twin, b.stepping(method, IPC), b.net.macs * (10 * BATCH + 3 * 100), 20_000, b.cosine(method))


def mtt(b: Bench) -> Pair:
    """MTT: an update through 4 inner steps on 100 images."""
    method = MTT(net=NET, augment=STRATEGY, syn_steps=UNROLLED, experts=1, expert_epochs=1, max_start=1)
    begin, goal = (b.net.init(Seeds(s), b.plan.device) for s in (1, 2))
    res = {"expert-0": expert_of(begin, goal)}
    state = b.start(method)
    kept, rate = (state[n].clone().requires_grad_() for n in ("image", "rate"))
    optimiser = torch.optim.SGD([kept, rate], lr=1e-3)
    how = {"steps": UNROLLED, "strategy": STRATEGY}

    def twin() -> None:
        official_matching.mtt_step(b.fresh(), begin, goal, kept, state["target"], rate, optimiser, **how)

    macs = b.net.macs * 12 * UNROLLED * 10 * IPC
    return Pair(twin, b.stepping(method, IPC, res=res), macs, 5000, b.cosine(method, res))


def expert_of(begin: State, goal: State) -> State:
    """An expert who went from one place to another in an epoch."""
    moved = {f"delta.{name}": (goal[name] - begin[name])[None].half() for name in begin}
    return {**{f"start.{name}": value for name, value in begin.items()}, **moved}


PAIRS = {f.__name__: f for f in (dm, dc, dsa, training, evaluation, budgets, idc, idm, mtt)}


KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""glibc's settings that make it keep freed memory, as attar does (``attar.execute.memory.keep``)."""


@contextmanager
def twin_of(name: str, plan: Plan, settings: dict[str, str]) -> Iterator[Callable[[], float]]:
    """A process that does a pair's twin once a call, and says how many seconds it took; it has done it once before.

    Args:
        settings: environment variables of the process, beside those of this one.
    """
    words = [sys.executable, __file__, "--twin", "--pairs", name, "--dtypes", plan.dtype, "--device", plan.device]
    child = subprocess.Popen(
        [*words, "--threads", str(plan.threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **settings},
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None

    def seconds() -> float:
        print(file=child.stdin, flush=True)  # type: ignore[arg-type]
        return float(json.loads(child.stdout.readline()))  # type: ignore[union-attr]

    try:
        seconds()
        yield seconds
    finally:
        child.stdin.close()
        child.wait()


def serve(pair: Pair, plan: Plan) -> None:
    """The other end of :func:`twin_of`: works once for every line that comes in."""
    for _ in sys.stdin:
        print(json.dumps(timed(pair.twin, plan)), flush=True)


def measure(name: str, pair: Pair, plan: Plan, rounds: int) -> dict[str, Any]:
    """The figures of a pair."""
    twin, kept, fast = [], [], []
    first = timed(pair.fast, plan)
    timed(pair.fast, plan)
    with twin_of(name, plan, {}) as usual, twin_of(name, plan, KEPT) as keeping:
        for i in range(rounds):
            twin.append(usual())
            fast.append(timed(pair.fast, plan))
            kept.append(keeping())
            print(f"  {i + 1} of {rounds}: {twin[-1]:.2f} s ({kept[-1]:.2f} s) and {fast[-1]:.2f} s", flush=True)
    a, b = statistics.median(twin), statistics.median(fast)
    product, convolution = product_rate(plan), convolution_rate(plan)
    compiling = max(0.0, first - b)
    found = {
        "rounds": rounds,
        "twin_seconds": a,
        "fast_seconds": b,
        **ratio("ratio", twin, fast),
        "kept_twin_seconds": statistics.median(kept),
        **ratio("kept_ratio", kept, fast),
        "compile_seconds": compiling,
        "published_repeats": pair.whole,
        "ratio_of_whole_run": a * pair.whole / (compiling + b * pair.whole),
        "flops": 2 * pair.macs,
        "twin_gflops": 2 * pair.macs / a / 1e9,
        "fast_gflops": 2 * pair.macs / b / 1e9,
        "product_gflops": product / 1e9,
        "convolution_gflops": convolution / 1e9,
        "floor_seconds": 2 * pair.macs / max(product, convolution),
        "fraction_of_floor": 2 * pair.macs / max(product, convolution) / b,
    }
    return {**found, **cosine_of(pair, plan)}


def cosine_of(pair: Pair, plan: Plan) -> dict[str, float]:
    """The cosine of the gradients, where the plan is not in float32 itself."""
    return {"cosine": pair.cosine()} if pair.cosine and plan.dtype != "float32" else {}


def ratio(name: str, a: list[float], b: list[float]) -> dict[str, Any]:
    """The median of the ratios of neighbours, and their range."""
    ratios = sorted(x / y for x, y in zip(a, b))
    return {name: statistics.median(ratios), f"{name}_range": [ratios[0], ratios[-1]]}


def timed(work: Callable[[], object], plan: Plan) -> float:
    """Seconds of one call."""
    torch.set_num_threads(plan.threads)
    began = time.perf_counter()
    work()
    if torch.device(plan.device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def product_rate(plan: Plan) -> float:
    """Floating-point operations a second of a matrix product in the plan's precision."""
    a = torch.randn(2048, 2048, device=plan.device, dtype=DTYPES[plan.dtype])
    return max(2 * 2048**3 / timed(lambda: a @ a, plan) for _ in range(8))


@torch.no_grad()
def convolution_rate(plan: Plan) -> float:
    """Floating-point operations a second of the second block's convolution, 3 x 3 on 256 maps of 128 x 16 x 16, forward."""
    kind = {"device": plan.device, "dtype": DTYPES[plan.dtype]}
    x = torch.randn(256, WIDTH, 16, 16, **kind).to(memory_format=torch.channels_last)
    w = torch.randn(WIDTH, WIDTH, 3, 3, **kind)
    flops = 2.0 * x.numel() * w[:, 0].numel()
    return max(flops / timed(lambda: torch.nn.functional.conv2d(x, w, padding=1), plan) for _ in range(8))


def main() -> None:
    """Runs the pairs that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--again", action="store_true", help="measure pairs that have a row already")
    parser.add_argument("--cosines", action="store_true", help="only the cosines of pairs that have a row already")
    parser.add_argument(
        "--twin", action="store_true", help="only the twin of one pair, once for every line that comes in"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.jsonl")
    given = parser.parse_args()
    rows = Rows(given.out)
    np.random.seed(0)
    for dtype in given.dtypes.split(","):
        plan = Plan(device=given.device, threads=given.threads, dtype=dtype, compiled=True)
        bench = Bench(plan)
        if given.twin:
            return serve(PAIRS[given.pairs](bench), plan)
        for name in given.pairs.split(","):
            facts = environment(given.device)
            key = {"pair": name, "dtype": dtype, "threads": given.threads, "machine": facts.get("gpu", facts["cpu"])}
            row = rows.find(**key)
            if row and given.cosines:
                rows.put({**row, **cosine_of(PAIRS[name](bench), plan)}, **key)
                continue
            if row and not given.again:
                continue
            print(f"{name}, {dtype}, {given.threads} threads", flush=True)
            what = (PAIRS[name].__doc__ or "").rstrip(".")
            found = measure(name, PAIRS[name](bench), plan, given.rounds)
            rows.put({"what": what, **found, "command": command(), "seed": 0, "environment": facts}, **key)
            print(f"  {found['ratio']:.2f} times, {found['fraction_of_floor']:.0%} of the floor", flush=True)


if __name__ == "__main__":
    ended(main)
