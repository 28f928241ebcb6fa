"""GLISTER against a plain derivation: a linear head that really moves, gradients by autograd."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

import attar.testing.trial as trial
from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.resources.gradients import Gradients
from attar.seeds import Seeds
from attar.select.glister import Glister, best, in_rounds
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"


@dataclasses.dataclass
class Head:
    """A linear layer and the examples that it sees, float64."""

    w: torch.Tensor
    b: torch.Tensor
    h: torch.Tensor
    y: torch.Tensor
    held: torch.Tensor

    @property
    def logits(self) -> torch.Tensor:
        return linear(self.h, self.w, self.b)

    def gradient(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the mean loss of some examples."""
        w, b = (t.clone().requires_grad_() for t in (self.w, self.b))
        dw, db = torch.autograd.grad(cross_entropy(linear(self.h[rows], w, b), self.y[rows]), (w, b))
        return dw, db

    def loss(self) -> float:
        """Of the judges."""
        return float(cross_entropy(self.logits[self.held], self.y[self.held]))


def head(seed: int, n: int = 24, k: int = 3, d: int = 4) -> Head:
    g = torch.Generator().manual_seed(seed)
    w, b, h = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((k, d), (k,), (n, d)))
    return Head(w, b, h, torch.randint(0, k, (n,), generator=g), torch.arange(n) % 5 == 0)


def plain(at: Head, wanted: list[int], members: list[list[int]], rounds: int, lr: float) -> list[list[int]]:
    """Round by round, every gain by autograd."""
    at, picks = dataclasses.replace(at), [[] for _ in members]
    for r in range(rounds):
        vw, vb = at.gradient(torch.nonzero(at.held).flatten().tolist())
        new: list[int] = []
        for group, rows in enumerate(members):
            share = wanted[group] * (r + 1) // rounds - wanted[group] * r // rounds
            gain = {}
            for i in rows:
                gw, gb = at.gradient([i])
                gain[i] = float((gw * vw).sum() + (gb * vb).sum())
            left = [i for i in rows if i not in picks[group]]
            left.sort(key=lambda i: (bool(at.held[i]), -gain[i], i))
            picks[group] += left[:share]
            new += left[:share]
        if new:
            dw, db = at.gradient(new)
            at.w, at.b = at.w - lr * dw, at.b - lr * db
    return picks


def ours(at: Head, wanted: list[int], members: list[list[int]], rounds: int, lr: float) -> list[list[int]]:
    rows = [torch.tensor(m) for m in members]
    found = in_rounds(at.logits, at.h, at.y, at.held, rows, wanted, rounds=rounds, lr=lr)
    return [r[p.places].tolist() for r, p in zip(rows, found)]


@pytest.mark.parametrize("rounds", [1, 2, 5, 9, 40])
@pytest.mark.parametrize("seed", range(4))
def test_picks_are_those_of_a_head_that_really_moves(seed: int, rounds: int) -> None:
    """40 rounds are more than there are picks: some give none, and all end."""
    at = head(seed)
    for members, wanted in (([list(range(24))], [9]), ([list(range(10)), list(range(10, 24))], [4, 5])):
        assert ours(at, wanted, members, rounds, 0.5) == plain(at, wanted, members, rounds, 0.5)


def test_gains_foretell_the_change_of_the_judges_loss() -> None:
    at, lr = head(1), 1e-4
    found = in_rounds(at.logits, at.h, at.y, at.held, [torch.arange(24)], [24], rounds=1, lr=lr)[0]
    for place, gain in zip(found.places.tolist(), found.gain.tolist()):
        dw, db = at.gradient([place])
        moved = dataclasses.replace(at, w=at.w - lr * dw, b=at.b - lr * db)
        assert at.loss() - moved.loss() == pytest.approx(gain, rel=0.02, abs=1e-8)


def test_gains_are_computed_anew_and_that_helps() -> None:
    """On average over seeds, the picks of many rounds teach the judges more than those of one round."""
    differ, saved = 0, []
    for seed in range(20):
        at = head(seed, n=60)
        ends = []
        for rounds in (1, 10):
            picks, moved = ours(at, [20], [list(range(60))], rounds, 1.0)[0], dataclasses.replace(at)
            for i in range(0, 20, 2):
                dw, db = moved.gradient(picks[i : i + 2])
                moved.w, moved.b = moved.w - dw, moved.b - db
            ends.append((set(picks), moved.loss()))
        differ += ends[0][0] != ends[1][0]
        saved.append(ends[0][1] - ends[1][1])
    assert differ >= 18
    assert sum(saved) / len(saved) > 2 * torch.tensor(saved).std() / len(saved) ** 0.5


def test_judges_come_last() -> None:
    gain = torch.tensor([5.0, 1.0, 4.0, 1.0, 9.0])
    held = torch.tensor([True, False, False, False, False])
    free = torch.tensor([True, True, True, True, False])
    assert best(gain, free, held, 4).tolist() == [2, 1, 3, 0]
    assert best(gain, free, held, 1).tolist() == [2]


@pytest.mark.parametrize("balanced", [True, False])
def test_no_judge_is_kept_while_others_are_left(balanced: bool) -> None:
    real = toy((9, 14, 5))
    method = Glister(net=NET, epochs=1, validation=0.3, balanced=balanced)
    res = trial.resources(method, real)
    held = res["gradients-0"]["held"]
    assert real.labels[held].bincount(minlength=3).tolist() == [3, 4, 1]
    few = method.init(real, Budget(rows=12), Seeds(), res)
    assert not held[few["picked"]].any()
    whole = method.init(real, Budget(rows=28), Seeds(), res)
    assert sorted(whole["picked"].tolist()) == list(range(28))
    pools = [real.labels[whole["picked"]] == k for k in range(3)] if balanced else [slice(None)]
    for pool in pools:
        order = held[whole["picked"]][pool].tolist()
        assert order == sorted(order), "a judge stands before an example"


def test_the_network_has_not_seen_the_judges() -> None:
    assert Glister(net=NET, epochs=2, validation=0.2).needs() == (Gradients(net=NET, epochs=2, held=0.2),)
    assert Gradients(net=NET, epochs=2, held=0.2).needs()[0].held == 0.2  # type: ignore[attr-defined]


def test_without_a_judge_nothing_is_chosen() -> None:
    real, method = toy((1, 1, 1)), Glister(net=NET, epochs=0)
    res = trial.resources(method, real)
    assert len(method.init(real, Budget(ipc=1), Seeds(), res)["picked"]) == 3
    with pytest.raises(DataError, match="no class of toy has two examples"):
        method.init(real, Budget(rows=2), Seeds(), res)


def test_one_class_goes_by_id() -> None:
    real, method = toy((6,)), Glister(net=NET, epochs=0, validation=0.2, rounds=2)
    res = trial.resources(method, real)
    others = torch.nonzero(~res["gradients-0"]["held"]).flatten().tolist()
    assert method.init(real, Budget(rows=4), Seeds(), res)["picked"].tolist() == others[:4]


@pytest.mark.parametrize("settings", [{"validation": 0.0}, {"validation": 1.0}, {"rounds": 0}, {"lr": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        Glister(**settings)  # pyright: ignore[reportArgumentType]
