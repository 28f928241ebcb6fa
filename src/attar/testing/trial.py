"""What the checks share: a method with small settings, runs of it, and a place for what they write."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from attar import registry
from attar.budget import Budget
from attar.execute.plan import Plan
from attar.execute.progress import Progress, Silent
from attar.io import tensors
from attar.method import Batch, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.build import gather
from attar.run import Outcome, run
from attar.seeds import Seeds
from attar.testing.toys import toy

SMALL = {
    "steps": 3,
    "batch": 4,
    "batch_net": 8,
    "outer": 2,
    "inner": 1,
    "epochs": 4,
    "window": 3,
    "runs": 1,
    "experts": 2,
    "networks": 2,
    "max_start": 2,
    "syn_steps": 3,
    "batch_expert": 8,
    "batches_expert": 1,
    "net": "convnet:width=8:depth=1",
}
"""Settings that a method given as a class is tried with, where it has them."""
PLAN = Plan()
"""One thread of the CPU, float32, eager."""


def method_of(method: Method | type[Method] | str) -> Method:
    """A method as it is; a class, or the name of one (``dm``, ``my.py:Mine``), with small settings."""
    if isinstance(method, Method):
        return method
    kind = registry.find(method) if isinstance(method, str) else method
    return kind(**{f.name: SMALL[f.name] for f in dataclasses.fields(kind) if f.name in SMALL})


def require(holds: bool, sentence: str) -> None:
    """Raises AssertionError unless ``holds``; an ``assert`` would vanish under ``python -O``."""
    if not holds:
        raise AssertionError(sentence)


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder to write into, with a cache of its own beside; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="attar-check-") as made, cache_at(Path(made) / "cache"):
        yield Path(made).resolve() / "work"


@contextmanager
def cache_at(place: Path) -> Iterator[None]:
    """Another cache inside the block, so that a check neither reads nor fills the user's."""
    before = os.environ.get("ATTAR_CACHE")
    os.environ["ATTAR_CACHE"] = str(place)
    try:
        yield
    finally:
        os.environ.pop("ATTAR_CACHE")
        if before is not None:
            os.environ["ATTAR_CACHE"] = before


@lru_cache(maxsize=64)
def resources(method: Method, real: RealSet, seed: int = 0) -> Resources:
    """What a method needs, built once."""
    with folder():
        return gather(method, real, seed=seed, plan=PLAN, progress=Silent())


def fresh(
    method: Method,
    real: RealSet,
    *budgets: Budget,
    seed: int = 0,
    at: Path | None = None,
    progress: Progress | None = None,
    save_every: float = 30.0,
) -> Outcome:
    """A run from its start, or on from what is in the folder ``at``."""
    return run(
        method,
        real,
        budgets,
        seed=seed,
        plan=PLAN,
        res=resources(method, real, seed),
        folder=at,
        progress=progress,
        save_every=save_every,
    )


@dataclass(frozen=True)
class Done:
    """A finished run of one budget."""

    outcome: Outcome
    state: State
    rows: Rows
    labels: torch.Tensor


@lru_cache(maxsize=256)
def done(method: Method, real: RealSet, budget: Budget, seed: int = 0) -> Done:
    """A finished run; equal questions share one."""
    outcome = fresh(method, real, budget, seed=seed)
    state = outcome.states[0]
    rows = method.finish({k: v.clone() for k, v in state.items()}, resources(method, real, seed))
    return Done(outcome, state, rows, labels_of(rows, real))


def labels_of(rows: Rows, real: RealSet) -> torch.Tensor:
    """The class of every row that the budget counts: int64 [M]; of the stored ones, where rows were decoded from fewer."""
    if rows.stored:
        return rows.stored["label"]
    return real.labels[rows.picked] if rows.picked is not None else rows.columns["label"]


def content(state: State) -> bytes:
    """A state as bytes; equal states have equal ones."""
    return tensors.encode(state)


def rows_content(rows: Rows) -> bytes:
    """What a method kept as bytes."""
    flat = {f"columns/{k}": v for k, v in rows.columns.items()} | {f"extra/{k}": v for k, v in rows.extra.items()}
    flat |= {f"stored/{k}": v for k, v in rows.stored.items()} | {f"judged/{k}": v for k, v in rows.judged.items()}
    own = {"picked": rows.picked, "weight": rows.weight}
    return tensors.encode(flat | {k: v for k, v in own.items() if v is not None}) + repr(rows.recipe).encode()


@dataclass
class Moment:
    """A run stopped in the middle: a state and the batch of the next step, not shared with any other check."""

    method: Method
    real: RealSet
    res: Resources
    state: State
    batch: Batch


def moment(method: Method, *, real: RealSet | None = None, budget: Budget | None = None, step: int = 0) -> Moment:
    """The first state of a run with the slots of its optimisers, and the batch of a step.

    Args:
        real: a toy where left out. budget: 2 of each class where left out.
    """
    real, seeds = real or toy(), Seeds(0)
    res = resources(method, real)
    with seeds.globally("moment"):
        state = method.init(real, budget or Budget(ipc=2), seeds.at("init"), res)
        for name, opt in method.learned(state).items():
            state |= opt.slots(name, state[name])
        return Moment(method, real, res, state, method.draw(real, seeds.at("step", step), res, step))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree of dictionaries, by path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    else:
        yield path, value


def difference(a: Any, b: Any) -> str | None:
    """Where two trees of tensors and plain values first differ, None where they are equal to the bit."""
    ours, theirs = dict(leaves(a)), dict(leaves(b))
    if ours.keys() != theirs.keys():
        return ", ".join(sorted(ours.keys() ^ theirs.keys()))
    for path, x in ours.items():
        y = theirs[path]
        tensor = isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)
        equal = tensors.encode({"": x}) == tensors.encode({"": y}) if tensor else x == y
        if not equal:
            return path
    return None


def copied(value: Any) -> Any:
    """A tree whose tensors are its own."""
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


def cast(value: Any, dtype: torch.dtype) -> Any:
    """A tree whose floating-point tensors have another precision."""
    if isinstance(value, dict):
        return {k: cast(v, dtype) for k, v in value.items()}
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
