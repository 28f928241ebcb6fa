"""A selection in a training loop of one's own: coverage, weights, refreshes, and going on in the middle of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import attar
from attar.apply.adaptive import by_gradients, linear, seen
from attar.apply.loader import WeightedLoader, chosen, subset, weighted_mean
from attar.budget import Budget
from attar.errors import AttarError, DataError, UsageError
from attar.method import Method
from attar.resources.gradients import residuals
from attar.select.active import Active
from attar.select.grand import GraNd


class Pairs(torch.utils.data.Dataset[Any]):
    """n examples (x [3], y) of two classes; x is a function of the position."""

    def __init__(self, n: int = 20) -> None:
        self.x = torch.randn(n, 3, generator=torch.Generator().manual_seed(4)) + torch.arange(n)[:, None] % 2
        self.y = torch.arange(n) % 2

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.x[i], int(self.y[i])


KEPT = (torch.tensor([3, 7, 11, 0, 19, 8, 5]), torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0, 3.0, 1.0]))


def epoch_of(loader: WeightedLoader) -> list[tuple[list[int], list[list[float]], list[float]]]:
    """(ids, x, w) of every batch of an epoch."""
    return [(loader.ids.tolist(), x.tolist(), w.tolist()) for x, _, w in loader]


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_an_epoch_has_every_example_once_with_its_weight(batch: int) -> None:
    data, loader = Pairs(), WeightedLoader(Pairs(), KEPT, batch=batch)
    weight = dict(zip(KEPT[0].tolist(), KEPT[1].tolist()))
    orders = []
    for epoch in range(3):
        assert loader.epoch == epoch and loader.step == 0
        batches = epoch_of(loader)
        assert len(batches) == len(loader)
        ids = [i for part, _, _ in batches for i in part]
        assert sorted(ids) == sorted(KEPT[0].tolist())
        for part, x, w in batches:
            assert x == data.x[part].tolist() and w == [weight[i] for i in part]
        sizes = [len(part) for part, _, _ in batches]
        assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
        orders.append(tuple(ids))
    assert len(set(orders)) == 3
    assert epoch_of(WeightedLoader(data, KEPT, batch=batch)) != epoch_of(
        WeightedLoader(data, KEPT, batch=batch, seed=1)
    )


def test_the_global_generator_is_neither_asked_nor_obeyed() -> None:
    before = torch.default_generator.get_state()
    first = epoch_of(WeightedLoader(Pairs(), KEPT, batch=2))
    assert torch.equal(before, torch.default_generator.get_state())
    torch.manual_seed(99)
    assert epoch_of(WeightedLoader(Pairs(), KEPT, batch=2)) == first


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_loader_goes_on_after_any_batch(stop: int) -> None:
    """Four batches an epoch, stopped in the middle and at the end of epochs, with a selection that changes."""

    def made() -> WeightedLoader:
        return WeightedLoader(Pairs(), KEPT, batch=2, refresh=lambda e: (torch.arange(8) + e, None), every=2)

    def batches(loader: WeightedLoader, n: int = 100) -> list[Any]:
        found = []
        while loader.epoch < 4:
            for x, _, w in loader:
                found.append((loader.ids.tolist(), x.tolist(), w.tolist()))
                if len(found) == n:
                    return found
        return found

    whole, first, second = batches(made()), made(), made()
    head = batches(first, stop)
    second.load_state_dict(first.state_dict())
    assert head + batches(second) == whole and len(whole) == 16
    assert head + batches(first) == whole  # as does the one that was broken off


def test_a_state_belongs_to_its_loader() -> None:
    state = WeightedLoader(Pairs(), KEPT, batch=2).state_dict()
    with pytest.raises(UsageError, match="the saved loader had batch=2, this one has batch=3"):
        WeightedLoader(Pairs(), KEPT, batch=3).load_state_dict(state)


@pytest.mark.parametrize("given", [True, False])
def test_selections_are_renewed_at_their_epochs_alone(given: bool) -> None:
    asked: list[int] = []

    def refresh(epoch: int) -> tuple[torch.Tensor, None]:
        asked.append(epoch)
        return torch.tensor([epoch, epoch + 1]), None

    loader = WeightedLoader(Pairs(), KEPT if given else None, batch=8, refresh=refresh, every=3)
    seen_at = [sorted(epoch_of(loader)[0][0]) for _ in range(8)]
    assert asked == ([3, 6] if given else [0, 3, 6])
    first = sorted(KEPT[0].tolist()) if given else [0, 1]
    assert seen_at == [first] * 3 + [[3, 4]] * 3 + [[6, 7]] * 2


def test_training_with_weights_is_a_plain_loop() -> None:
    data = Pairs()

    def network() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 2).double()

    net, loader = network(), WeightedLoader(data, KEPT, batch=3)
    opt = torch.optim.SGD(net.parameters(), lr=0.5)
    orders = []
    for _ in range(3):
        for x, y, w in loader:
            opt.zero_grad()
            weighted_mean(cross_entropy(net(x.double()), y, reduction="none"), w.double()).backward()
            opt.step()
            orders.append(loader.ids.tolist())
    plain, weight = network(), dict(zip(KEPT[0].tolist(), KEPT[1].tolist()))
    for ids in orders:
        grads = [torch.zeros_like(p) for p in plain.parameters()]
        total = sum(weight[i] for i in ids)
        for i in ids:
            loss = cross_entropy(plain(data.x[i : i + 1].double()), data.y[i : i + 1])
            for g, d in zip(grads, torch.autograd.grad(loss, list(plain.parameters()))):
                g += weight[i] / total * d if total else 0 * d
        with torch.no_grad():
            for p, g in zip(plain.parameters(), grads):
                p -= 0.5 * g
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(net.parameters(), plain.parameters()))
    assert not torch.allclose(net.weight, network().weight)
    assert float(weighted_mean(torch.tensor([3.0]), torch.tensor([0.0]))) == 0


def test_a_folder_is_a_selection_of_its_source(tmp_path: Path) -> None:
    images = torch.arange(12 * 4).reshape(12, 1, 2, 2).to(torch.uint8)
    labels = torch.arange(12) % 3
    data = torch.utils.data.TensorDataset(images, labels)
    kept = attar.select(
        (images.numpy(), labels.numpy()), method="random", ipc=2, out=tmp_path / "kept", test_fraction=0.25
    )
    part = attar.subset(tmp_path / "kept", data)
    assert [int(part[i][1]) for i in range(len(part))] == kept.labels.tolist()
    assert all(torch.equal(part[i][0], kept.bytes8[i]) for i in range(len(part)))
    loader = attar.WeightedLoader(data, kept, batch=4)
    assert sorted(i for ids, _, _ in epoch_of(loader) for i in ids) == sorted(kept.table["source_id"].to_pylist())


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (([20], None), "holds id 20 but the dataset has 20 examples"),
        (([3, -1], None), "holds id -1"),
        (([1, 2], [1.0]), "2 ids have 1 weights"),
        (([], None), "one id at least"),
        (([1, 2], [1.0, -2.0]), "the weight of id 2 is -2.0"),
        (([1, 2], [float("nan"), 1.0]), "the weight of id 1 is nan"),
        (([1, 2], [0.0, 0.0]), "all weights are 0"),
    ],
)
def test_impossible_selections_are_refused(kept: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        WeightedLoader(Pairs(), kept)
    with pytest.raises(DataError, match=says):
        subset(kept, Pairs())


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing says what to train on"):
        WeightedLoader(Pairs())
    with pytest.raises(UsageError, match="batch=0"):
        WeightedLoader(Pairs(), KEPT, batch=0)
    synthetic = attar.distill("digits", method="dm", ipc=1, steps=1, batch=4, net="convnet:width=4:depth=1")
    with pytest.raises(UsageError, match="a synthetic set holds no examples"):
        chosen(synthetic, 100)


class Small(nn.Module):
    """A network with dropout and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.body = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.first(x)))


def test_the_model_is_seen_as_it_is_and_left_so() -> None:
    torch.manual_seed(1)
    model, data = Small().train(), Pairs()
    model.body.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    logits, hidden, labels = seen(model, linear(model, None), data, 7)
    assert model.training and not model.body.training and not model.head._forward_pre_hooks
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    want = (data.x @ model.first.weight.T + model.first.bias).clamp(min=0)
    assert torch.allclose(hidden, want, atol=1e-6) and labels.tolist() == data.y.tolist()
    grads = residuals(logits, labels)[:, :, None] * hidden[:, None, :]  # [N, K, D]
    for i in range(3):
        loss = cross_entropy(model.eval()(data.x[i : i + 1]), data.y[i : i + 1])
        assert torch.allclose(torch.autograd.grad(loss, model.head.weight)[0], grads[i], atol=1e-6)


@pytest.mark.parametrize("name", ["glister", "gradmatch", "craig", "grand", GraNd(networks=1)])
def test_methods_choose_again_by_the_network_as_it_is(name: str | Method) -> None:
    torch.manual_seed(1)
    model, data = Small(), Pairs()
    refresh = by_gradients(name, model, data, Budget(rows=6), batch=8)
    loader = WeightedLoader(data, batch=3, refresh=refresh, every=2)
    found = []
    for _ in range(4):
        ids = [i for part, _, _ in epoch_of(loader) for i in part]
        assert len(set(ids)) == len(ids) == 6
        found.append(sorted(ids))
        with torch.no_grad():
            model.first.weight.normal_()
            model.head.weight.normal_()
    assert found[0] == found[1] and found[2] == found[3] != found[0]
    assert all(torch.equal(a, b) for a, b in zip(refresh(2), refresh(2)))


def test_methods_that_look_at_something_else_are_refused() -> None:
    for method in ("kcenter", "dm", Active()):
        with pytest.raises(AttarError, match="does not choose by the gradients of one network"):
            by_gradients(method, Small(), Pairs(), Budget(rows=4))
    with pytest.raises(UsageError, match=r"Small has no linear layer 'neck'; it has first, head"):
        by_gradients("craig", Small(), Pairs(), Budget(rows=4), head="neck")


class Branched(Small):
    """A network whose last linear layer is called in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = super().forward(x)
        return z + self.extra(self.body(self.first(x))) if self.training else z


def test_a_layer_that_gives_no_logits_is_refused() -> None:
    for model, head in ((Branched(), None), (Small(), "first")):
        with pytest.raises(
            UsageError, match=r"do not come from the layer Linear.* name the one that they come from as head"
        ):
            by_gradients("craig", model, Pairs(), Budget(rows=4), head=head)(0)
    assert len(by_gradients("craig", Branched(), Pairs(), Budget(rows=4), head="head")(0).ids) == 4


def test_a_label_without_a_logit_is_named() -> None:
    data = Pairs()
    data.y[3] = 2
    for name in ("craig", "gradmatch", "glister", "grand"):
        with pytest.raises(DataError, match=r"example 3 of the dataset has the label 2, .* classes 0 to 1"):
            by_gradients(name, Small(), data, Budget(rows=4))(0)


def test_ids_are_whole_numbers() -> None:
    with pytest.raises(DataError, match="give whole numbers"):
        chosen(([1.7, 2.2], None), 10)
