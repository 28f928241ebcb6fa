"""Training against an independent twin: modules, autograd and torch's own optimiser on the same batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from plain_nets import Double, assert_alike, module
from torch import nn

from attar.errors import AttarError, DataError
from attar.evaluate.protocol import Protocol
from attar.evaluate.train import accuracy, train
from attar.nets import Net, Params, build
from attar.real.realset import Splits
from attar.seeds import Seeds

E, BATCH = 6, 16
SHORT = Protocol(name="short", epochs=E, batch=BATCH, lr=0.05)
SEEDS = Seeds(3).at("evaluate")


def twin(norm: str, start: Params, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> nn.Module:
    """E + 1 epochs with torch.optim.SGD; a new optimiser with a tenth of the rate after the epoch E // 2 + 1."""
    model = module(norm, start)
    w = torch.ones(len(x)).double() if weight is None else weight.double() / weight.double().mean()
    lr = 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for epoch in range(E + 1):
        order = torch.randperm(len(x), generator=SEEDS.generator("order", epoch))
        for index in order.split(BATCH):
            log_p = model(x[index]).log_softmax(1)
            target = y[index] if y.ndim == 2 else nn.functional.one_hot(y[index], 10)
            loss = (-(log_p * target).sum(1) * w[index]).sum() / len(index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch == E // 2 + 1:
            lr *= 0.1
            optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    return model


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("case", ["plain", "weighted", "soft"])
def test_equals_torch_sgd_with_a_new_optimiser_at_the_drop(digits: Splits, norm: str, case: str) -> None:
    real = digits.train
    index = real.sample(4, torch.Generator().manual_seed(0)).flatten()  # [K, 4] -> [40]
    x, y = real.draw(index).double(), real.labels[index]
    weight = torch.linspace(0, 2, 40) if case == "weighted" else None
    y = torch.rand(40, 10, generator=torch.Generator().manual_seed(1)).softmax(1).double() if case == "soft" else y
    net = Double(build(f"convnet:depth=1:width=8:norm={norm}", channels=1, size=(8, 8), classes=10))
    expected = twin(norm, net.init(SEEDS.at("init")), x, y, weight)
    found: Any = train(net, x, y, protocol=SHORT, seeds=SEEDS, weight=weight)  # pyright: ignore[reportArgumentType]
    assert_alike(found, expected)


def test_the_batches_of_an_epoch_depend_on_seeds_and_epoch_alone(digits: Splits, net: Net) -> None:
    x, y = digits.train.draw(torch.arange(40)), digits.train.labels[:40]
    seen = []
    for epochs, seeds in ((2, SEEDS), (5, SEEDS), (2, Seeds(4).at("evaluate"))):
        spy = Double(net)
        protocol = dataclasses.replace(SHORT, epochs=epochs, augment="dsa:color_crop_cutout_scale_rotate")
        train(spy, x, y, protocol=protocol, seeds=seeds)  # pyright: ignore[reportArgumentType]
        seen.append(spy.seen)
    short, long, other = seen
    assert len(short) == 3 * 3 and len(long) == 6 * 3  # E + 1 epochs of batches of 16, 16, 8
    assert all(torch.equal(a, b) for a, b in zip(short, long))
    assert not any(torch.equal(a, b) for a, b in zip(short, other))
    assert not torch.equal(short[0], short[3])


def test_a_batch_of_one_image_without_a_spread_gets_a_sentence() -> None:
    net = build("resnet18:norm=batch:width=4", channels=1, size=(8, 8), classes=10)
    x, y = torch.randn(BATCH + 1, 1, 8, 8), torch.arange(BATCH + 1) % 10
    with pytest.raises(DataError, match=r"holds one image, .* or a network without batch norms"):
        train(net, x, y, protocol=SHORT, seeds=SEEDS)


def test_the_global_generator_is_neither_used_nor_moved(digits: Splits) -> None:
    net = build("alexnet", channels=1, size=(16, 16), classes=10)  # holds dropout where the architecture does
    x = torch.randn(12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 10
    protocol = dataclasses.replace(SHORT, epochs=1)
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        runs.append(train(net, x, y, protocol=protocol, seeds=SEEDS))
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in runs[0])


def test_a_real_set_trains_as_its_tensor_does(digits: Splits, net: Net) -> None:
    real = digits.train.subset(torch.arange(0, 1200, 30))
    by_set = train(net, real, real.labels, protocol=SHORT, seeds=SEEDS)
    by_tensor = train(net, real.draw(torch.arange(len(real))), real.labels, protocol=SHORT, seeds=SEEDS)
    assert all(torch.equal(by_set[k], by_tensor[k]) for k in by_set)


def test_progress_counts_every_epoch_and_looks_change_nothing(digits: Splits, net: Net, counted: Any) -> None:
    x, y = digits.train.draw(torch.arange(40)), digits.train.labels[:40]
    best = dataclasses.replace(SHORT, select="best", evaluate_every=3)
    seen: list[Params] = []
    looked = train(net, x, y, protocol=best, seeds=SEEDS, progress=counted, watch=seen.append)
    assert counted.done == E + 1
    assert len(seen) == 2
    plain = train(net, x, y, protocol=SHORT, seeds=SEEDS)
    assert all(torch.equal(looked[k], plain[k]) for k in plain)


def test_a_cosine_falls_within_the_epoch(digits: Splits, net: Net) -> None:
    """The rate that reaches the update is that of the batch, so that a doubled batch number gives a smoother fall."""
    cosine = dataclasses.replace(SHORT, schedule="cosine", epochs=2, momentum=0.0, weight_decay=0.0)
    x, y = digits.train.draw(torch.arange(32)), digits.train.labels[:32]
    spy = Double(net)
    found: Any = train(spy, x, y, protocol=cosine, seeds=SEEDS)  # pyright: ignore[reportArgumentType]
    params = {k: v.requires_grad_() for k, v in spy.init(SEEDS.at("init")).items()}
    rates = [0.05 * 0.5 * (1 + torch.cos(torch.tensor(t / 4 * torch.pi, dtype=torch.float64))) for t in range(4)]
    for step, lr in enumerate(rates):
        order = torch.randperm(32, generator=SEEDS.generator("order", step // 2))
        index = order[(step % 2) * 16 :][:16]
        loss = nn.functional.cross_entropy(net(params, x[index].double()), y[index])
        grads = torch.autograd.grad(loss, list(params.values()))
        params = {k: (p - lr * g).detach().requires_grad_() for (k, p), g in zip(params.items(), grads)}
    for name, value in params.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("lr", [1e30, 1e12])
def test_a_broken_training_names_the_epoch_and_the_remedy(digits: Splits, net: Net, lr: float) -> None:
    x, y = digits.train.draw(torch.arange(40)), digits.train.labels[:40]
    with pytest.raises(AttarError, match=r"epoch \d+ of 7.*lower the learning rate of 1e\+"):
        train(net, x, y, protocol=dataclasses.replace(SHORT, lr=lr), seeds=SEEDS)


def test_weights_that_break_in_the_last_update_are_noticed(digits: Splits, net: Net) -> None:
    x, y = digits.train.draw(torch.arange(16)), digits.train.labels[:16]
    once = dataclasses.replace(SHORT, epochs=1, schedule="cosine", lr=1e38, weight_decay=1e3)
    with pytest.raises(AttarError, match="the weights became"):
        train(net, x, y, protocol=once, seeds=SEEDS)


@pytest.mark.parametrize("weight", [[1.0, float("nan")], [1.0, -1.0], [0.0, 0.0]])
def test_weights_that_mean_nothing_are_refused(digits: Splits, net: Net, weight: list[float]) -> None:
    x, y = digits.train.draw(torch.arange(2)), digits.train.labels[:2]
    with pytest.raises(DataError, match="weights"):
        train(net, x, y, protocol=SHORT, seeds=SEEDS, weight=torch.tensor(weight))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_accuracy_is_the_share_of_right_answers_in_evaluation_mode(digits: Splits, norm: str) -> None:
    net = build(f"convnet:depth=1:width=8:norm={norm}", channels=1, size=(8, 8), classes=10)
    real, test = digits.train, digits.test
    params = train(net, real, real.labels, protocol=dataclasses.replace(SHORT, epochs=1, batch=256), seeds=SEEDS)
    kept = {k: v.clone() for k, v in params.items()}
    x = test.draw(torch.arange(len(test)))
    right = sum(int(net(params, x[i : i + 1], train=False).argmax()) == int(test.labels[i]) for i in range(len(test)))
    for batch in (7, 256, 5000):
        assert accuracy(net, params, test, batch=batch) == right / len(test)
    assert 0.3 < right / len(test) < 1
    assert all(torch.equal(params[k], kept[k]) for k in kept)


def test_training_learns(digits: Splits) -> None:
    net = build("convnet:depth=2:width=16", channels=1, size=(8, 8), classes=10)
    index = digits.train.sample(10, torch.Generator().manual_seed(0)).flatten()
    protocol = Protocol(name="short", epochs=40)
    params = train(net, digits.train.draw(index), digits.train.labels[index], protocol=protocol, seeds=SEEDS)
    assert accuracy(net, params, digits.test) > 0.7
