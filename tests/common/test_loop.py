"""The loop's promises to a method that no registered method happens to need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from attar import registry
from attar.budget import Budget
from attar.distill.ncfm import NCFM
from attar.errors import AttarError, DataError
from attar.execute.plan import Plan
from attar.method import Batch, Descend, Method, Resources, Rows, State
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import RealSet
from attar.run import Outcome, run
from attar.seeds import Seeds
from attar.testing.toys import toy, unlabelled


@dataclass(frozen=True, kw_only=True)
class Plain(Method):
    """Moves the kept images towards 1."""

    steps: int = 3
    "Updates."

    @property
    def learn(self) -> dict[str, Opt]:
        return {"image": Opt(lr=0.1)}

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        return pixels.start(real, budget, seeds, kind="real")

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        return (state["image"] - 1).square().sum()

    def finish(self, state: State, res: Resources) -> Rows:
        return Rows(columns={"image": state["image"], "label": state["label"]})


class Dropping(Plain):
    """A step whose network drops units by torch's global generator."""

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        return descend(state, lambda s, b: (s["image"] * torch.rand(s["image"].shape[1:])).sum(), batch)


class Twice(Plain):
    """Two updates a step; the second of step 13 breaks."""

    at: ClassVar[list[int]] = []

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        return {"sick": torch.tensor(float("nan") if step == 12 else 1.0)}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        state = descend(state, self.loss, batch)
        return descend(state, lambda s, b: s["image"].sum() * b["sick"] + s["image"].new_zeros(()), batch)


class LastBreaks(Plain):
    """The loss is finite at every step but the last gradient is not."""

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        return (state["image"] * 0).abs().sqrt().sum()  # 0, with an infinite slope times 0


def ran(method: Method, *budgets: Budget, **settings: Any) -> Outcome:
    return run(method, settings.pop("real", toy()), budgets, seed=0, plan=settings.pop("plan", Plan()), **settings)


def test_the_global_generator_is_the_same_beside_other_budgets() -> None:
    """Dropout must not depend on how many budgets share the run."""
    one, two = Budget(ipc=1), Budget(ipc=2)
    together = ran(Dropping(), one, two).states
    for budget, state in zip((one, two), together):
        assert torch.equal(ran(Dropping(), budget).states[0]["image"], state["image"])


def test_a_broken_loss_is_named_by_its_own_step() -> None:
    """Also where a step has several losses."""
    with pytest.raises(AttarError, match=r"nan at step 13 of 25; .* was not kept"):
        ran(Twice(steps=25), Budget(ipc=1))


def test_broken_images_are_refused_without_a_folder_too() -> None:
    with pytest.raises(AttarError, match="'image' is not finite after step 1"):
        ran(LastBreaks(steps=1), Budget(ipc=1))


def test_autocast_keeps_no_casts() -> None:
    """Its cache lives as long as the run and holds a copy of all weights for each gradient."""
    with Plan(dtype="bfloat16").applied():
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_autocast_cache_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_autocast_cache_enabled()


@pytest.mark.parametrize("kind", ["real", "noise"])
def test_images_of_no_class_are_not_distilled(kind: str) -> None:
    with pytest.raises(DataError, match="toy has no classes to distil"):
        pixels.start(unlabelled(), Budget(rows=4), Seeds(0), kind=kind)
    with pytest.raises(DataError, match="class 'bread' of toy has no examples"):
        pixels.start(toy((4, 0, 4)), Budget(rows=4), Seeds(0), kind=kind)


def test_where_losses_do_not_compare_a_run_by_the_clock_hands_over_the_last_images() -> None:
    """Here the images move down, through 0 and on, so that the loss is lowest on the way."""

    class Judged(Plain):
        def loss(self, state: State, batch: Batch) -> torch.Tensor:
            return (state["image"] - state["image"].detach()).sum() + state["image"].detach().abs().sum()

    class Left(Judged):
        comparable = False

    how = {"steps": 40}
    last = ran(Left(**how), Budget(ipc=1)).states[0]["image"]
    assert torch.equal(ran(Left(**how), Budget(ipc=1), minutes=9.0).states[0]["image"], last)
    assert not torch.equal(ran(Judged(**how), Budget(ipc=1), minutes=9.0).states[0]["image"], last)


def test_methods_whose_losses_of_different_steps_do_not_compare_are_not_judged_by_them() -> None:
    assert {m.name for m in registry.METHODS if not registry.find(m.name).comparable} == {"idm", "idc", "dream", "datm"}
    assert NCFM().comparable and not NCFM(sampler=True).comparable


def test_a_run_without_a_folder_ticks_no_more_often_when_a_save_would_be_due() -> None:
    lines = ran(Plain(steps=45), Budget(ipc=1), save_every=0.0).log.decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 30, 40, 45]
