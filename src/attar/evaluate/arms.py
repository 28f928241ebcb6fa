"""Arms: the sides of a ranking, each with the learning rate that it chose on held-out training examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from attar.condensed import Condensed
from attar.errors import DataError
from attar.evaluate.bench import Bench
from attar.evaluate.lessons import Lesson, Offer, offers
from attar.evaluate.presets import RANKING, resolve
from attar.evaluate.protocol import Protocol
from attar.evaluate.store import Result
from attar.evaluate.train import Broken
from attar.nets import Net
from attar.real.realset import RealSet
from attar.real.split import hold_out
from attar.seeds import Seeds

GRID = (0.001, 0.005, 0.01, 0.05, 0.1)
"""Learning rates that every arm chooses from."""
HELD = 0.1
"""Share of the training examples on which it chooses."""


@dataclass(frozen=True)
class Arm:
    """One side under one condition: a lesson for every seed, and the protocol but for its rate."""

    lessons: Sequence[Lesson]
    plan: Protocol


@dataclass(frozen=True)
class Tuned:
    """What an arm gave: the plan with the chosen rate, validation accuracies along :data:`GRID`, results on the test set."""

    plan: Protocol
    validation: tuple[float, ...]
    results: list[Result]

    @property
    def accuracies(self) -> list[float]:
        """One for every seed."""
        return [r["accuracy"] for r in self.results]


def parted(real: RealSet, condensed: Condensed) -> tuple[RealSet, RealSet]:
    """The training examples without, and the tenth with which rates are chosen; no row of a selected set is in the tenth.

    Raises:
        DataError: too few examples to hold any out.
    """
    used = torch.tensor(condensed.table["source_id"].drop_null().to_pylist(), dtype=torch.int64)
    free = torch.nonzero(~torch.isin(real.ids, used)).flatten()
    held = free[:0]
    if len(free):
        held = free[hold_out(real.labels[free], real.n_classes, fraction=HELD, seeds=Seeds(0).at(RANKING))[1]]
    if not len(held):
        raise DataError(
            f"'{real.name}' has {len(free)} training examples besides the kept ones, too few to hold some out for the choice "
            "of learning rates; give more real data, or another protocol"
        )
    kept = torch.ones(len(real), dtype=torch.bool)
    kept[held] = False
    return real.subset(torch.nonzero(kept).flatten()), real.subset(held)


def augments(plan: Protocol) -> bool:
    """Whether a protocol changes images before it shows them."""
    return plan.augment != "none" or plan.cutmix > 0


def arms(condensed: Condensed, way: Offer, draws: list[Lesson], own: Protocol, real: RealSet) -> dict[str, Arm]:
    """``set`` and ``random``, each ``_augmented`` and ``_plain``; and ``set_hard`` where the set's own labels are others.

    Args:
        way: how the set is taught. draws: random examples with the same kind of labels, for every seed.
        own: the protocol of the set; where it does not augment, the augmentation of ``dsa`` stands for its own.
    """
    own = dataclasses.replace(own, select="last", evaluate_every=0, looks_after=0.0, labels=way.labels)
    plain = dataclasses.replace(own, augment="none", cutmix=0.0)
    augmented = own if augments(own) else dataclasses.replace(own, augment=resolve("dsa", real).augment)
    same = [way.lesson] * len(draws)
    found = {}
    for condition, plan in (("augmented", augmented), ("plain", plain)):
        found[f"set_{condition}"], found[f"random_{condition}"] = Arm(same, plan), Arm(draws, plan)
    if way.labels != "hard":
        hard = next(offers(condensed, eight_bit=False)).lesson
        found["set_hard"] = Arm([hard] * len(draws), dataclasses.replace(own, labels="hard"))
    return found


def tuned(trial: Bench, final: Bench, net: Net, sides: Mapping[str, Arm], seeds: Sequence[int]) -> dict[str, Tuned]:
    """Every arm on the test set of ``final``, after all of them have chosen their rates on that of ``trial``."""
    validation = {name: _validated(trial, net, arm, seeds[0], name) for name, arm in sides.items()}
    found = {}
    for name, arm in sides.items():
        accuracies = validation[name]
        plan = dataclasses.replace(arm.plan, lr=GRID[accuracies.index(max(accuracies))])  # the lowest of the best
        results = final.results(f"{net.name}, {_said(name)}", net, plan, arm.lessons, seeds)
        found[name] = Tuned(plan, accuracies, results)
    return found


def _validated(bench: Bench, net: Net, arm: Arm, seed: int, name: str) -> tuple[float, ...]:
    """The accuracies of one network for every rate of the grid; 0 where a training broke."""
    found = []
    for lr in GRID:
        plan = dataclasses.replace(arm.plan, lr=lr)
        try:
            (result,) = bench.results(f"{net.name}, {_said(name)}, rate {lr:g}", net, plan, arm.lessons[:1], [seed])
            found.append(result["accuracy"])
        except Broken:
            found.append(0.0)
    return tuple(found)


def _said(name: str) -> str:
    return name.replace("_", ", ")
