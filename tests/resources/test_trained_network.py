"""Training: against torch's own optimiser and scheduler, its order of examples, its buffers, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from attar.errors import DataError, UsageError
from attar.method import State
from attar.nets.fit import net_of
from attar.real.realset import RealSet, Splits
from attar.resources.network import TrainedNetwork, permutation
from attar.seeds import Seeds

MakeSet = Callable[..., RealSet]
Build = Callable[..., State]
NET = "convnet:width=8:depth=1"
BATCH_NET = "convnet:width=8:depth=1:norm=batch"


def batches(spec: TrainedNetwork, real: RealSet, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """What every step draws."""
    return [spec.draw(real, Seeds(seed).at("step", t), {}, t) for t in range(spec.length(real))]


def test_an_epoch_visits_every_example_once(make_set: MakeSet) -> None:
    real, spec = make_set(), TrainedNetwork(net=NET, epochs=3, batch=16)
    drawn = batches(spec, real)
    assert len(drawn) == 12
    assert {len(b["image"]) for b in drawn} == {12, 13}
    epochs = [torch.cat([b["image"] for b in drawn[4 * e : 4 * e + 4]]).flatten(1) for e in range(3)]
    everything = real.draw(torch.arange(50)).flatten(1).unique(dim=0)
    assert all(torch.equal(e.unique(dim=0), everything) for e in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_labels_stay_with_their_images(make_set: MakeSet) -> None:
    real = make_set()
    for batch in batches(TrainedNetwork(net=NET, epochs=1, batch=7), real):
        same = (batch["image"][:, None] == real.draw(torch.arange(50))[None]).flatten(2).all(2)  # [B, N]
        assert torch.equal(batch["target"].argmax(1), real.labels[same.int().argmax(1)])
        assert (batch["target"].sum(1) == 1).all()


def test_an_order_belongs_to_run_and_epoch() -> None:
    assert torch.equal(permutation(0, 1, 20), permutation(0, 1, 20))
    assert sorted(permutation(0, 1, 20).tolist()) == list(range(20))
    assert not torch.equal(permutation(0, 1, 20), permutation(0, 2, 20))
    assert not torch.equal(permutation(0, 1, 20), permutation(1, 1, 20))


@pytest.mark.parametrize("spec", [NET, BATCH_NET])
def test_it_trains_as_torch_does(spec: str, make_set: MakeSet, build: Build) -> None:
    """The same batches through torch.optim.SGD, with the rate set by hand along the cosine."""
    real = make_set()
    task = TrainedNetwork(net=spec, epochs=2, batch=16, lr=0.05)
    ours = build(task, real)
    net = net_of(spec, real)
    module = net.make()
    module.load_state_dict(net.init(Seeds(0).at("init").at("network")))
    theirs = by_torch(module, task, batches(task, real))
    assert set(ours) == set(theirs)
    for name in theirs.keys() - {"body.1.num_batches_tracked"}:  # which a Net does not count
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name


def by_torch(module: nn.Module, task: TrainedNetwork, drawn: list[dict[str, torch.Tensor]]) -> State:
    optimiser = torch.optim.SGD(module.parameters(), lr=task.lr, momentum=task.momentum, weight_decay=task.weight_decay)
    for t, batch in enumerate(drawn):
        optimiser.param_groups[0]["lr"] = task.lr * 0.5 * (1 + math.cos(math.pi * t / len(drawn)))
        optimiser.zero_grad()
        cross_entropy(module(batch["image"]), batch["target"].argmax(1)).backward()
        optimiser.step()
    return {k: v.detach() for k, v in module.state_dict().items()}


def test_buffers_move_and_are_not_learned(make_set: MakeSet, build: Build) -> None:
    real, task = make_set(), TrainedNetwork(net=BATCH_NET, epochs=2, batch=25)
    state = task.init(real, None, Seeds(0), {})
    assert {k.split(".")[0] for k in state} == {"net", "buffer"}
    assert set(task.learned(state)) == {k for k in state if k.startswith("net.")}
    slots = {s: v for k, opt in task.learned(state).items() for s, v in opt.slots(k, state[k]).items()}
    assert set(task.learned(state | slots)) == set(task.learned(state))
    made = build(task, real)
    assert not torch.equal(made["body.1.running_mean"], state["buffer.body.1.running_mean"])
    assert not any(k.endswith("momentum") for k in made)


def test_it_learns_and_repeats_itself(digits: Splits, build: Build) -> None:
    real = digits.train
    task = TrainedNetwork(net="convnet:width=16:depth=2", epochs=4, batch=64, lr=0.05)
    params, again = build(task, real), build(task, real)
    assert all(torch.equal(params[k], again[k]) for k in params)
    test = digits.test
    logits = net_of(task.net, real)(params, test.draw(torch.arange(len(test))), train=False)
    assert (logits.argmax(1) == test.labels).float().mean() > 0.8


def test_transforms_change_images_and_not_their_number(make_set: MakeSet) -> None:
    real = make_set()
    plain, moved, again = (
        batches(TrainedNetwork(net=NET, epochs=1, batch=16, augment=a), real) for a in ("none", "crop", "crop")
    )
    assert all(a["image"].shape == b["image"].shape for a, b in zip(plain, moved))
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(plain, moved))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(moved, again))
    assert all(torch.equal(a["target"], b["target"]) for a, b in zip(plain, moved))


def test_impossible_settings_are_refused(make_set: MakeSet) -> None:
    with pytest.raises(UsageError, match="epochs=0"):
        TrainedNetwork(epochs=0)
    with pytest.raises(UsageError, match="batch=0"):
        TrainedNetwork(batch=0)
    with pytest.raises(UsageError, match="learning rate"):
        TrainedNetwork(lr=-1.0)
    with pytest.raises(UsageError, match="'crp'"):
        batches(TrainedNetwork(net=NET, augment="crp"), make_set())


def test_a_set_without_classes_cannot_train(make_set: MakeSet) -> None:
    import dataclasses

    with pytest.raises(DataError, match="features=pixels"):
        TrainedNetwork().init(dataclasses.replace(make_set(), class_names=()), None, Seeds(0), {})


def test_cost_counts_a_step(make_set: MakeSet) -> None:
    real = make_set()
    small, large = (TrainedNetwork(net=NET, batch=b).cost(real) for b in (10, 40))
    assert large.flops_per_step == pytest.approx(4 * small.flops_per_step)
    assert large.memory > small.memory > 0
