"""The twins that speed is measured against compute what attar computes."""

from __future__ import annotations

import numpy as np
import official
import pytest
import torch
from plain_matching import PlainConvNet

from attar.budget import Budget
from attar.distill.dc import DC
from attar.distill.dm import DM
from attar.evaluate.protocol import Protocol
from attar.evaluate.train import train
from attar.method import Method
from attar.nets.fit import net_of
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import moment

NET = "convnet:width=4:depth=1"
REAL = toy((9, 9), channels=3, size=(8, 8))


def source() -> official.Source:
    """All real images; a batch of nine is then a whole class, in any order."""
    return official.Source(REAL.draw(torch.arange(len(REAL))), [c.numpy() for c in REAL.classes])


def plain(params: dict[str, torch.Tensor]) -> PlainConvNet:
    net = PlainConvNet(3, 8, REAL.n_classes, width=4, depth=1)
    net.load_state_dict({k: v.clone() for k, v in params.items()})
    return net


@pytest.mark.parametrize(
    "method, step",
    [
        (DM(batch=9, net=NET, augment="none"), official.dm_step),
        (DC(batch=9, net=NET, outer=1, inner=1, start="real"), official.gradient_step),
    ],
)
def test_one_update_moves_the_kept_images_alike(method: Method, step) -> None:
    at = moment(method, budget=Budget(ipc=2), real=REAL)
    whole = torch.stack(list(REAL.classes))  # [K, 9]: every image of a class
    net = net_of(NET, REAL)
    params = at.batch["net"]
    x = REAL.draw(whole.flatten())
    batch = {**at.batch, "real": x.unflatten(0, whole.shape)}
    if isinstance(method, DM):
        batch["target"] = torch.stack([net.features(params, part).mean(0) for part in x.split(9)]).detach()
    state = {**at.state, **{f"net.{k}": v for k, v in params.items()}}
    image = state["image"].clone().requires_grad_()
    loss = method.loss({**state, "image": image}, batch)
    ours = image.detach() - 0.1 * torch.autograd.grad(loss, image)[0]
    kept = state["image"].clone().requires_grad_()
    theirs = step(source(), kept, torch.optim.SGD([kept], lr=0.1), batch=9, strategy="none", net=plain(params))
    assert theirs == pytest.approx(float(loss.detach()) / REAL.n_classes, rel=1e-4)
    assert torch.allclose(ours, kept.detach(), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(kept.detach(), state["image"], atol=1e-5)


def test_both_sides_of_a_class_pass_one_transform() -> None:
    np.random.seed(0)
    x = torch.rand(1, 3, 8, 8).expand(5, 3, 8, 8)
    for strategy in ("flip", "crop", "color", "cutout", "scale", "rotate"):
        moved = False
        for _ in range(20):
            real, kept = official.siamese_pair(strategy, x, x[:2])
            assert all(torch.equal(image, real[0]) for image in [*real, *kept])
            moved |= not torch.equal(real[0], x[0])
        assert moved, f"{strategy} changes nothing"


@pytest.mark.parametrize("epochs", [1, 6])
def test_the_standard_training_ends_at_the_same_weights(epochs: int) -> None:
    net, seeds = net_of(NET, REAL), Seeds(1)
    images, labels = REAL.draw(torch.arange(18)), REAL.labels
    ours = train(net, images, labels, protocol=Protocol(name="dc", epochs=epochs), seeds=seeds)
    twin = plain(net.init(seeds.at("init")))
    official.train(images, labels, twin, epochs=epochs, strategy="none")
    for name, value in twin.state_dict().items():
        assert torch.allclose(value, ours[name], rtol=1e-3, atol=1e-5), name
