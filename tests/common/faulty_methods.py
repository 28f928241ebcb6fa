"""Methods with one fault each, and the check that must find it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from good_methods import First, Means

from attar.budget import Budget
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State
from attar.optim import Opt
from attar.real.realset import RealSet
from attar.seeds import Seeds

counter = itertools.count()


def _with(base: type[Method], **hooks: Any) -> type[Method]:
    """A subclass with some hooks replaced."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(type("Faulty", (base,), hooks))


def _after_init(change: Callable[[State, RealSet], State], base: type[Method] = Means) -> type[Method]:
    """A method whose first state is changed."""

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        return change(base.init(self, real, budget, seeds, res), real)

    return _with(base, init=init)


def _after_finish(change: Callable[[Rows, State], Rows], base: type[Method] = Means) -> type[Method]:
    """A method whose rows are changed."""
    return _with(base, finish=lambda self, state, res: change(base.finish(self, state, res), state))


def _loss(change: Callable[[torch.Tensor, State, Batch], torch.Tensor]) -> type[Method]:
    """A method whose loss is changed."""
    return _with(Means, loss=lambda self, state, batch: change(Means.loss(self, state, batch), state, batch))


def _before_step(act: Callable[[State], Any]) -> type[Method]:
    """A method that does something besides at every step."""

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        act(state)
        return descend(state, self.loss, batch)

    return _with(Means, step=step)


def _columns(rows: Rows, **columns: torch.Tensor) -> Rows:
    return dataclasses.replace(rows, columns={**rows.columns, **columns})


def _set(state: State, **tensors: torch.Tensor) -> State:
    return {**state, **tensors}


def _doubled(state: State) -> None:
    state["image"].add_(1e-3 * next(counter))


def _grown(state: State) -> None:
    state[f"memory{len(state)}"] = torch.zeros(1)


def _draw(self: Means, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
    batch = Means.draw(self, real, seeds, res, step)
    return {"target": batch["target"] + 0.01 * torch.rand(())}


def _any_count(self: First, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
    """Picks with replacement, so that every budget can be met."""
    n = budget.total(real.sizes)
    picked = torch.arange(n) % len(real)
    return {"picked": picked, "weight": torch.ones(n), "gain": torch.zeros(n)}


def _by_position(self: First, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
    """The first examples of each class in the order of the set."""
    budget_counts = budget.counts(real.sizes, names=real.class_names)
    picked = torch.cat([rows[:n] for rows, n in zip(real.classes, budget_counts)])
    return {"picked": picked, "weight": torch.ones(len(picked)), "gain": torch.zeros(len(picked))}


def _touches_pixels(self: First, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
    assert real.images is not None
    real.images[0, 0, 0, 0] += 1
    return First.init(self, real, budget, seeds, res)


def _needs_three_classes(self: Means, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
    {3: 0}[real.n_classes]  # a KeyError for any other number
    return Means.init(self, real, budget, seeds, res)


def _needs_even_sides(state: State, real: RealSet) -> State:
    return _set(state, image=state["image"].unflatten(3, (real.shape[2] // 2, 2)).flatten(3))


def _writes(state: State) -> None:
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"stray")


def _connects(state: State) -> None:
    with socket.socket() as s:
        s.settimeout(0.01)
        s.connect_ex(("127.0.0.1", 9))


def _backwards(self: Means, real: RealSet) -> int:
    return Means.length(self, real) + next(counter)


@dataclass(frozen=True, kw_only=True)
class Listed(Means):
    """A setting that JSON gives back as a list."""

    sides: tuple[int, ...] = (1, 2)
    "Some numbers."


@dataclass(frozen=True, kw_only=True)
class Unflagged(Means):
    """A setting that no flag can give."""

    table: dict | None = dataclasses.field(default_factory=lambda: {"a": [1]}, hash=False)
    "A table of things."


@dataclass(frozen=True, kw_only=True)
class Silent(Means):
    """A setting without a sentence."""

    extra: int = 3


def _nan_to_zero(self: Means, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
    return {"target": Means.draw(self, real, seeds, res, step)["target"].nan_to_num()}


def _start_without_nan(self: Means, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
    state = Means.init(self, real, budget, seeds, res)
    return {**state, "image": state["image"].nan_to_num()}


FAULTS: dict[str, tuple[str, type[Method]]] = {
    "the clock": (
        "same_seed_same_bytes",
        _after_init(lambda s, real: _set(s, image=s["image"] + time.time_ns() % 1000)),
    ),
    "a seed of its own": (
        "other_seed_differs",
        _with(
            Means,
            init=lambda self, real, budget, seeds, res: Means.init(self, real, budget, Seeds(3), res),
            draw=lambda self, real, seeds, res, step: (
                seeds.number("asked"),
                Means.draw(self, real, Seeds(3).at(step), res, step),
            )[1],
        ),
    ),
    "the global generator in a selector": (
        "other_seed_differs",
        _after_init(lambda s, real: _set(s, weight=torch.rand(len(s["weight"]))), First),
    ),
    "memory outside the state": ("resume_same_bytes", _before_step(_doubled)),
    "a count across budgets": ("several_budgets", _before_step(_doubled)),
    "one row too many": (
        "exact_budget",
        _after_finish(lambda rows, s: Rows(columns={k: torch.cat([v, v[:1]]) for k, v in rows.columns.items()})),
    ),
    "the right total of the wrong classes": (
        "exact_budget",
        _after_finish(lambda rows, s: _columns(rows, label=torch.zeros_like(s["label"]))),
    ),
    "a label too high": ("labels_and_weights", _after_finish(lambda rows, s: _columns(rows, label=s["label"] + 1))),
    "a negative weight": (
        "labels_and_weights",
        _after_finish(lambda rows, s: dataclasses.replace(rows, weight=-s["weight"]), First),
    ),
    "an example twice": (
        "rows_are_source_rows",
        _after_finish(lambda rows, s: dataclasses.replace(rows, picked=s["picked"].clamp(min=4)), First),
    ),
    "the order of the set": ("order_of_rows", _with(First, init=_by_position)),
    "finish that learns": (
        "finish_twice",
        _after_finish(lambda rows, s: _columns(rows, image=s["image"].add_(1))),
    ),
    "a state that grows": ("state_is_tensors", _before_step(_grown)),
    "a state with a number": ("state_is_tensors", _after_init(lambda s, real: _set(s, extra=3))),  # type: ignore[arg-type]
    "a graph in the state": (
        "state_is_tensors",
        _after_init(lambda s, real: _set(s, extra=s["image"].clone().requires_grad_() * 2)),
    ),
    "a state in the networks' precision": (
        "state_is_tensors",
        _after_init(lambda s, real: _set(s, extra=torch.eye(2) @ torch.eye(2))),
    ),
    "draw by the global generator": ("draw_is_pure", _with(Means, draw=_draw)),
    "loss by the global generator": ("loss_is_pure", _loss(lambda loss, s, b: loss * (1 + torch.rand(())))),
    "loss that changes the state": (
        "loss_is_pure",
        _loss(lambda loss, s, b: loss + s["label"].add_(0 * 1 + 1).sum() * 0),
    ),
    "loss of two numbers": ("loss_is_pure", _loss(lambda loss, s, b: loss[None])),
    "loss that does not see the images": ("loss_is_pure", _loss(lambda loss, s, b: loss * 0)),
    "a learning rate that diverges": (
        "loss_decreases",
        _with(Means, learn=property(lambda self: {"image": Opt(lr=5.0)})),
    ),
    "loss rounded to float32": ("float64_agrees", _loss(lambda loss, s, b: loss.float())),
    "loss that loses digits": ("float64_agrees", _loss(lambda loss, s, b: loss + (s["image"].sum() + 1e9) - 1e9)),
    "no cost": ("cost_of_memory", _with(Means, cost=lambda self, real, budget: Cost())),
    "a hundredth of the memory": (
        "cost_of_memory",
        _with(
            Means,
            cost=lambda self, real, budget: dataclasses.replace(
                Means.cost(self, real, budget), memory=Means.cost(self, real, budget).memory / 100
            ),
        ),
    ),
    "three classes or a traceback": ("one_class", _with(Means, init=_needs_three_classes)),
    "any number of examples": ("too_much_is_refused", _with(First, init=_any_count)),
    "even sides alone": ("any_shape", _after_init(_needs_even_sides)),
    "the same number of each class": (
        "uneven_classes",
        _with(
            Means,
            init=lambda self, real, budget, seeds, res: Means.init(
                self, real, Budget(ipc=max(1, budget.total(real.sizes) // real.n_classes)), seeds, res
            ),
        ),
    ),
    "NaN as zero": ("nan_is_refused", _with(Means, draw=_nan_to_zero, init=_start_without_nan)),
    "a pixel changed": ("source_unchanged", _with(First, init=_touches_pixels)),
    "NaN in the recipe": (
        "artifact_opens",
        _after_finish(lambda rows, s: dataclasses.replace(rows, recipe={"lr": float("nan")})),
    ),
    "numpy's seed": ("no_side_effects", _before_step(lambda s: np.random.seed(0))),
    "Python's seed": ("no_side_effects", _before_step(lambda s: random.seed(0))),
    "the environment": ("no_side_effects", _after_init(lambda s, real: os.environ.update(OMP_NUM_THREADS="7") or s)),
    "a stray file": ("no_network_no_stray_files", _before_step(_writes)),
    "a connection": ("no_network_no_stray_files", _before_step(_connects)),
    "a length that moves": ("progress_and_log", _with(Means, length=_backwards)),
    "no paper": ("docstrings", _with(Means, paper="")),
    "a setting without a sentence": ("docstrings", Silent),
    "a list for a tuple": ("settings_round_trip", Listed),
    "no flag": ("flags_round_trip", Unflagged),
    "a class in a function": ("flags_round_trip", _with(Means, __qualname__="make.<locals>.Faulty")),
    "worse than random": (
        "beats_random",
        _after_finish(lambda rows, s: _columns(rows, label=(s["label"] + 1) % 3)),
    ),
}
"""What is wrong -> (the check that finds it, the method)."""
