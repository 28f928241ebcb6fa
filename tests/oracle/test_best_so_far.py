"""What a run that ends by the clock hands over: the learned tensors of its best time, and nothing else in their place."""

from __future__ import annotations

import pytest
import torch

from attar.execute import best
from attar.optim import Opt


def tracked(*losses: float) -> dict[str, torch.Tensor]:
    """A learned tensor with a moving average, beside a constant that is called as one of the marks is."""
    state = {"image": torch.zeros(2), "mean": torch.ones(3, 1, 1)}
    opt = Opt(lr=1.0, average=0.5)
    state |= opt.slots("image", state["image"])
    state = best.watched(state, ("image",))
    for loss in losses:
        opt.update(state, "image", -torch.ones(2))
        best.look(state, loss)
    return best.chosen(state)


def test_the_values_and_their_average_are_those_of_the_lowest_loss() -> None:
    """After two updates the images are 2 and their average is (1 / 2 + 2) / (3 / 2); later losses are higher."""
    chosen = tracked(2.0, 1.0, 9.0, 9.0)
    assert chosen["image"].tolist() == [2.0, 2.0]
    assert chosen["image.average"].tolist() == pytest.approx([5 / 3, 5 / 3])


def test_a_constant_named_mean_stays() -> None:
    assert torch.equal(tracked(2.0, 1.0)["mean"], torch.ones(3, 1, 1))


def test_without_a_look_the_state_is_as_it_was() -> None:
    chosen = tracked()
    assert chosen["image"].tolist() == [0.0, 0.0] and "mean" in chosen
