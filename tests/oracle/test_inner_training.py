"""The path of gradient matching: inner training as torch.optim does it, and its schedule of networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from attar.augment import siamese
from attar.budget import Budget
from attar.distill.dc import DC
from attar.distill.dcc import DCC
from attar.distill.dsa import DSA
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.match import inner
from attar.match.inner import Path, loops, train
from attar.method import Batch, Descend, State
from attar.nets.fit import net_of, unprefixed
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"


@pytest.mark.parametrize("strategy", ["none", "color_crop_cutout"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_training_equals_torch_sgd(make_problem, norm: str, strategy: str) -> None:
    p = make_problem(norm=norm, counts=(4, 3, 4))
    seeds = Seeds(2).at("inner")
    before = {name: value.clone() for name, value in p.params.items() if name in p.net.trainable}
    ours = train(p.net, p.params, p.kept, p.label, epochs=4, lr=0.05, batch=5, strategy=strategy, seeds=seeds)
    optimiser = torch.optim.SGD(p.plain.parameters(), lr=0.05)
    p.plain.train()
    for epoch in range(4):
        order = torch.randperm(11, generator=seeds.generator("order", epoch))
        for i, index in enumerate(order.split(5)):
            x = p.kept[index]
            if strategy != "none":
                draw = seeds.generator("augment", epoch, i)
                x = siamese.augment(x, siamese.draw(strategy, len(index), draw, size=(8, 8), one_op=True))
            optimiser.zero_grad()
            cross_entropy(p.plain(x), p.label[index]).backward()
            optimiser.step()
    theirs = p.plain.state_dict()
    for name, value in ours.items():
        if name != "num_batches_tracked" and value.is_floating_point():
            assert torch.allclose(value, theirs[name], rtol=1e-9, atol=1e-12), name
    assert all(torch.equal(before[name], p.params[name]) for name in before)
    assert any(not torch.equal(before[name], ours[name]) for name in before)


def test_loops_by_images_per_class() -> None:
    published = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    assert {k: loops(k) for k in published} == published
    assert [loops(k) for k in (2, 5, 9)] == [(2, 50), (5, 50), (9, 50)]
    assert [loops(k) for k in (15, 25, 49, 51, 200)] == [(15, 50), (25, 25), (49, 15), (50, 10), (50, 10)]
    outer = [loops(k)[0] for k in range(1, 60)]
    assert outer == sorted(outer)


def test_given_loops_win_over_the_table() -> None:
    assert Path(outer=None, inner=None, lr=0.01, batch=4).counts(10) == (10, 50)
    assert Path(outer=3, inner=None, lr=0.01, batch=4).counts(10) == (3, 50)
    assert Path(outer=None, inner=7, lr=0.01, batch=4).counts(10) == (10, 7)
    for name in ("outer", "inner", "batch"):
        with pytest.raises(UsageError, match=f"{name}=0"):
            Path(**{"outer": 1, "inner": 1, "lr": 0.1, "batch": 1, name: 0})


class Watched(DC):
    """DC that notes the network before and after every step."""

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """As DC's."""
        before = {k: v.clone() for k, v in unprefixed(state).items()}
        seen: list[State] = []

        def noting(state: State, loss, batch: Batch, only: tuple[str, ...] = ()) -> State:
            seen.append({k: v.clone() for k, v in unprefixed(state).items()})
            return descend(state, loss, batch, only)

        state = super().step(state, batch, noting)
        after = {k: v.clone() for k, v in unprefixed(state).items()}
        fresh = {k: v.clone() for k, v in batch["net"].items()}
        STEPS.append({"before": before, "used": seen[0], "after": after, "fresh": fresh})
        return state


STEPS: list[dict[str, State]] = []


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("outer", [1, 3])
def test_a_fresh_network_every_outer_updates_and_no_training_after_the_last(outer: int) -> None:
    STEPS.clear()
    run(Watched(steps=7, batch=3, outer=outer, inner=2, net=NET), toy(), [Budget(ipc=2)], seed=0, plan=Plan())
    assert len(STEPS) == 7
    for i, step in enumerate(STEPS):
        due, last = i % outer == 0, i % outer == outer - 1
        assert same(step["used"], step["fresh"]) is due
        assert due or same(step["used"], step["before"])
        assert same(step["used"], step["after"]) is last
        assert i == 0 or same(step["before"], STEPS[i - 1]["after"])
    assert len({step["fresh"]["classifier.weight"].numpy().tobytes() for step in STEPS}) == 7


@pytest.mark.parametrize("method", [DC, DSA])
def test_inner_epochs_by_images_per_class(method, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args, **settings):
        calls.append((settings["epochs"], settings["lr"], settings["batch"], settings["strategy"]))
        return dict(args[1])

    monkeypatch.setattr(inner, "train", counted)
    task = method(steps=21, batch=3, net=NET, lr_net=0.03, batch_net=5)
    run(task, toy(), [Budget(ipc=10)], seed=0, plan=Plan())
    strategy = "none" if method is DC else "color_crop_cutout_flip_scale_rotate"
    assert calls == [(50, 0.03, 5, strategy)] * 19  # after all of 21 steps but 9 and 19, the last of a network
    calls.clear()
    run(task, toy(), [Budget(ipc=1)], seed=0, plan=Plan())
    assert calls == []  # one image a class: the networks are never trained


def test_dsa_transforms_each_training_image_by_itself(make_problem) -> None:
    """Inner training draws one operation a batch and parameters for every image, as the official code does."""
    p = make_problem(counts=(6, 6))
    ops = siamese.draw("crop_rotate", 12, Seeds(0).generator("x"), size=(8, 8), one_op=True)
    assert len(ops["op"].unique()) == 1
    assert len(ops["angle"].unique()) == 12
    plain, transformed = (
        train(p.net, p.params, p.kept, p.label, epochs=2, lr=0.1, batch=12, strategy=s, seeds=Seeds(1))
        for s in ("none", "crop_rotate")
    )
    assert not torch.allclose(plain["classifier.weight"], transformed["classifier.weight"], rtol=1e-6)


def test_the_first_real_images_fit_the_statistics(make_problem) -> None:
    """With batch norm a step of DC uses the statistics of 16 real images of each class on top of the network's own."""
    real, spec = toy((20, 20)), "convnet:width=4:depth=1:norm=batch"
    task = DC(steps=1, batch=18, net=spec)
    outcome = run(task, real, [Budget(ipc=1)], seed=4, plan=Plan())
    seeds = Seeds(4).at("step", 0)
    net, batch = net_of(spec, real), task.draw(real, seeds, {}, 0)
    params = {k: v.clone() for k, v in batch["net"].items()}
    net(params, batch["real"][:, :16].flatten(0, 1), train=True)
    kept = unprefixed(outcome.states[0])
    assert torch.equal(kept["body.1.running_mean"], params["body.1.running_mean"])
    assert not torch.equal(params["body.1.running_mean"], batch["net"]["body.1.running_mean"])


@pytest.mark.parametrize("method", [DC, DSA, DCC])
def test_loops_follow_what_is_asked_for_and_not_what_is_decoded(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image per class holds four of tiles: still one update a network, as of one image (DCC: ten)."""
    asked: list[int] = []
    counts = Path.counts
    monkeypatch.setattr(Path, "counts", lambda self, n: asked.append(n) or counts(self, n))
    task, real = method(params="tiles", steps=2, batch=4, net="convnet:width=4:depth=1"), toy()
    run(task, real, [Budget(ipc=1)], seed=0, plan=Plan())
    task.cost(real, Budget(ipc=1))
    assert asked and set(asked) == {1}
