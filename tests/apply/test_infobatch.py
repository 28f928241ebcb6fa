"""InfoBatch: what stays, what it weighs, and that nothing is lost in expectation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from attar.apply.infobatch import InfoBatch
from attar.apply.loader import WeightedLoader
from attar.errors import DataError, UsageError

LOSSES = torch.tensor([0.1, 0.2, 5.0, 0.3, 4.0, 0.1, 0.0, 3.0, 0.2])


def told(**settings: Any) -> InfoBatch:
    """One that has seen all losses."""
    pruning = InfoBatch(len(LOSSES), **{"epochs": 16, **settings})
    pruning.told(torch.arange(len(LOSSES)), LOSSES)
    return pruning


def test_low_losses_stay_by_chance_and_stand_for_the_others() -> None:
    ids, weight = told()(3)
    high = [2, 4, 7]
    assert set(high) < set(ids.tolist()) and len(ids) == 6
    for i, w in zip(ids.tolist(), weight.tolist()):
        assert w == (1 if i in high else 2)
    assert float(weight.sum()) == len(LOSSES)
    assert len(told(prune=0.0)(3).ids) == len(LOSSES)


def test_every_example_weighs_one_in_expectation() -> None:
    total, draws = torch.zeros(len(LOSSES)), 3000
    for seed in range(draws):
        ids, weight = told(seed=seed, prune=0.6)(2)
        total[ids] += weight
    assert torch.allclose(total / draws, torch.ones(len(LOSSES)), atol=5 * (6 / 2 - 1) ** 0.5 / draws**0.5)


def test_nothing_is_left_out_before_it_was_seen_nor_at_the_end() -> None:
    everything = list(range(len(LOSSES)))
    assert InfoBatch(len(LOSSES), epochs=16)(0).ids.tolist() == everything
    for epoch, whole in ((13, False), (14, True), (15, True)):
        assert (told()(epoch).ids.tolist() == everything) == whole
    some = InfoBatch(4, epochs=16)
    some.told(torch.tensor([1, 2]), torch.tensor([0.0, 9.0]))
    assert {0, 2, 3} <= set(some(1).ids.tolist())
    same = InfoBatch(4, epochs=16)
    same.told(torch.arange(4), torch.full((4,), 0.1))
    assert same(1).ids.tolist() == [0, 1, 2, 3]  # none is below the mean


def test_it_prunes_in_a_training_loop_and_goes_on_from_its_state() -> None:
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())

    def train(epochs: int, state: Any = None) -> tuple[list[int], Any]:
        torch.manual_seed(0)
        net, pruning = torch.nn.Linear(3, 2), InfoBatch(24, epochs=8)
        loader = WeightedLoader(data, batch=6, refresh=pruning, every=1)
        if state is not None:
            for part, saved in zip((net, pruning, loader), state):
                part.load_state_dict(saved)
        sizes = []
        while loader.epoch < epochs:
            sizes.append(0)
            for xs, ys, w in loader:
                losses = cross_entropy(net(xs), ys, reduction="none")
                pruning.told(loader.ids, losses)
                for p, g in zip(net.parameters(), torch.autograd.grad((losses * w).mean(), list(net.parameters()))):
                    p.data -= 0.5 * g
                sizes[-1] += len(xs)
        return sizes, [{k: v for k, v in part.state_dict().items()} for part in (net, pruning, loader)]

    whole, end = train(8)
    assert whole[0] == whole[7] == 24 and all(12 <= n < 24 for n in whole[1:7])
    head, state = train(3)
    tail, again = train(8, state)
    assert head + tail == whole and torch.equal(end[0]["weight"], again[0]["weight"])


def test_mistakes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"prune=1\.0"):
        InfoBatch(4, epochs=2, prune=1.0)
    with pytest.raises(UsageError, match="anneal=-1"):
        InfoBatch(4, epochs=2, anneal=-1)
    with pytest.raises(DataError, match="the loss of example 3 is nan"):
        InfoBatch(4, epochs=2).told(torch.tensor([2, 3]), torch.tensor([0.0, torch.nan]))
    with pytest.raises(DataError, match=r"losses of shape \[\] beside ids of shape \[2\].*reduction='none'"):
        InfoBatch(4, epochs=2).told(torch.tensor([2, 3]), torch.tensor(0.5))
    with pytest.raises(DataError, match="id 4 is none of the 4 examples"):
        InfoBatch(4, epochs=2).told(torch.tensor([2, 4]), torch.zeros(2))
    with pytest.raises(DataError, match="the saved losses are of 5 examples but there are 4"):
        InfoBatch(4, epochs=2).load_state_dict(InfoBatch(5, epochs=2).state_dict())


@pytest.mark.parametrize(("epochs", "whole"), [(1, 1), (5, 1), (8, 1), (9, 2), (10, 2), (16, 2), (100, 13)])
def test_the_last_epochs_see_everything_in_short_trainings_too(epochs: int, whole: int) -> None:
    pruning = told(epochs=epochs)
    full = [epoch for epoch in range(epochs) if len(pruning(epoch).ids) == len(LOSSES)]
    assert full == list(range(epochs - whole, epochs))
