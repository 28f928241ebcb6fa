"""Training by the protocols of other papers, against their official steps written with torch's own parts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from plain_nets import Double, assert_alike, module
from torch import nn
from torch.nn import functional as F

from attar.augment import cutmix
from attar.errors import UsageError
from attar.evaluate.presets import resolve
from attar.evaluate.protocol import Protocol
from attar.evaluate.teacher import Teacher
from attar.evaluate.train import train
from attar.nets import build
from attar.real.realset import Splits
from attar.seeds import Seeds

E, BATCH = 6, 16
SEEDS = Seeds(3).at("evaluate")


def double(norm: str) -> Double:
    return Double(build(f"convnet:depth=1:width=8:norm={norm}", channels=1, size=(8, 8), classes=10))


def short(name: str, digits: Splits) -> Protocol:
    """A preset of few epochs and small batches without augmentation, which has twins of its own."""
    plan = resolve(name, digits.train, epochs=E, augment="none", lr=0.02)
    return dataclasses.replace(plan, batch=BATCH)


def data(digits: Splits) -> tuple[torch.Tensor, torch.Tensor]:
    index = digits.train.sample(4, torch.Generator().manual_seed(0)).flatten()  # [K, 4] -> [40]
    return digits.train.draw(index).double(), digits.train.labels[index]


def batches(x: torch.Tensor, epoch: int, p: float) -> Any:
    """(rows, partners, box) of every batch of an epoch."""
    order = torch.randperm(len(x), generator=SEEDS.generator("order", epoch))
    generator = SEEDS.generator("cutmix", epoch)
    for index in order.split(BATCH):
        drawn = cutmix.draw(len(index), generator, size=(8, 8), p=p)
        yield index, drawn["partner"], drawn["box"].tolist()


def pasted(x: torch.Tensor, partner: torch.Tensor, box: list[int]) -> torch.Tensor:
    top, bottom, left, right = box
    x = x.clone()
    x[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right].clone()
    return x


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_idc_is_sgd_with_two_falls_and_two_cross_entropies(digits: Splits, norm: str) -> None:
    net, (x, y) = double(norm), data(digits)
    model = module(norm, net.init(SEEDS.at("init")))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2 * E // 3, 5 * E // 6], gamma=0.2)
    mixed = 0
    for epoch in range(E):
        for index, partner, box in batches(x, epoch, 0.5):
            top, bottom, left, right = box
            ratio = 1 - (bottom - top) * (right - left) / 64
            out = model(pasted(x[index], partner, box))
            loss = F.cross_entropy(out, y[index]) * ratio + F.cross_entropy(out, y[index][partner]) * (1 - ratio)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mixed += ratio < 1
        scheduler.step()
    assert 3 < mixed < 15
    found: Any = train(net, x, y, protocol=short("idc", digits), seeds=SEEDS)  # pyright: ignore[reportArgumentType]
    assert_alike(found, model)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("name", "turns"), [("fkd", 1), ("rded", 2)])
def test_a_student_follows_the_divergence_from_its_teacher(digits: Splits, norm: str, name: str, turns: int) -> None:
    """AdamW in two groups, KLDivLoss at temperature 20 on the mixed images; RDED's extra forward moves the batch norms."""
    net, guide, (x, y) = double(norm), double("batch"), data(digits)
    weights = guide.init(SEEDS.at("teacher"))
    model, wise = module(norm, net.init(SEEDS.at("init"))), module("batch", weights).eval()
    heavy, light = ([p for p in model.parameters() if (p.ndim > 1) == big] for big in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": heavy}, {"params": light, "weight_decay": 0.0}], lr=0.02, weight_decay=0.01
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: 0.5 * (1 + math.cos(math.pi * e / E / turns)))
    divergence = nn.KLDivLoss(reduction="batchmean")
    for epoch in range(E):
        for index, partner, box in batches(x, epoch, 1.0):
            mixed = pasted(x[index], partner, box)
            with torch.no_grad():
                if name == "rded":
                    model(x[index])
                answer = F.softmax(wise(mixed) / 20, dim=1)
            loss = divergence(F.log_softmax(model(mixed) / 20, dim=1), answer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    teacher = Teacher(guide, weights, {})  # pyright: ignore[reportArgumentType]
    found: Any = train(net, x, y, protocol=short(name, digits), seeds=SEEDS, teacher=teacher)  # pyright: ignore[reportArgumentType]
    assert_alike(found, model, rtol=1e-7)


def test_hard_labels_of_a_protocol_with_a_teacher_know_no_temperature(digits: Splits) -> None:
    """They stand beside: the same optimiser, schedule and mixing, cross entropy as it is."""
    (x, y), plan = data(digits), dataclasses.replace(short("fkd", digits), labels="hard")
    net = double("instance")
    hot: Any = train(net, x, y, protocol=plan, seeds=SEEDS)  # pyright: ignore[reportArgumentType]
    plain = dataclasses.replace(plan, temperature=1.0)
    same: Any = train(net, x, y, protocol=plain, seeds=SEEDS)  # pyright: ignore[reportArgumentType]
    assert all(torch.equal(hot[k], same[k]) for k in hot)


def test_a_teacher_is_neither_forgotten_nor_ignored(digits: Splits) -> None:
    (x, y), net = data(digits), double("instance")
    with pytest.raises(UsageError, match="needs a teacher and none was given"):
        train(net, x, y, protocol=short("rded", digits), seeds=SEEDS)  # pyright: ignore[reportArgumentType]
    teacher = Teacher(net, net.init(SEEDS), {})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="takes no labels from the teacher"):
        train(net, x, y, protocol=short("idc", digits), seeds=SEEDS, teacher=teacher)  # pyright: ignore[reportArgumentType]


def test_mixing_leaves_orders_and_augmentations_as_they_are(digits: Splits) -> None:
    """Its random numbers are a stream of their own."""
    x, y = data(digits)
    plan = dataclasses.replace(resolve("idc", digits.train, epochs=1), batch=BATCH)
    seen = []
    for p in (0.0, 1.0):
        spy = double("instance")
        train(spy, x, y, protocol=dataclasses.replace(plan, cutmix=p), seeds=SEEDS)  # pyright: ignore[reportArgumentType]
        seen.append(spy.seen)
    unmixed, mixed = seen
    generator = SEEDS.generator("cutmix", 0)
    for a, b in zip(unmixed, mixed, strict=True):
        drawn = cutmix.draw(len(a), generator, size=(8, 8))
        assert torch.equal(pasted(a, drawn["partner"], drawn["box"].tolist()), b)
