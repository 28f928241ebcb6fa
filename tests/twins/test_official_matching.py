"""The twins of IDC, IDM and MTT compute what attar computes."""

from __future__ import annotations

import official
import official_matching
import pytest
import torch
from plain_matching import PlainConvNet
from torch.nn.functional import one_hot

from attar.budget import Budget
from attar.distill.idc import IDC
from attar.distill.idm import IDM, entry
from attar.match.trajectories import trajectory_distance
from attar.match.unroll import unroll
from attar.nets.fit import net_of
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import moment

NET = "convnet:width=4:depth=1"
REAL = toy((9, 9), channels=3, size=(8, 8))
WHOLE = torch.stack(list(REAL.classes))  # [K, 9]: every image of a class


def source() -> official.Source:
    return official.Source(REAL.draw(torch.arange(len(REAL))), [c.numpy() for c in REAL.classes])


def plain(params: dict[str, torch.Tensor]) -> PlainConvNet:
    net = PlainConvNet(3, 8, REAL.n_classes, width=4, depth=1)
    net.load_state_dict({k: v.clone() for k, v in params.items()})
    return net


def whole_classes() -> torch.Tensor:
    return REAL.draw(WHOLE.flatten()).unflatten(0, WHOLE.shape)  # [K, 9, C, H, W]


def moved(loss: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return image.detach() - 0.1 * torch.autograd.grad(loss, image)[0]


def check(theirs: float, kept: torch.Tensor, ours: torch.Tensor, loss: torch.Tensor, start: torch.Tensor) -> None:
    assert theirs == pytest.approx(float(loss.detach()), rel=1e-4)
    assert torch.allclose(ours, kept.detach(), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(kept.detach(), start, atol=1e-5)


def test_an_update_of_idc() -> None:
    at = moment(IDC(batch=9, net=NET, augment="none"), budget=Budget(ipc=2), real=REAL)
    state = {**at.state, **{f"net.{k}": v for k, v in at.batch["net"].items()}}
    image = state["image"].clone().requires_grad_()
    loss = at.method.loss({**state, "image": image}, {**at.batch, "real": whole_classes()})
    ours, kept = moved(loss, image), state["image"].clone().requires_grad_()
    how = {"batch": 9, "factor": 2, "strategy": "none", "net": plain(at.batch["net"])}
    scale = {"mean": state["mean"], "std": state["std"]}
    theirs = official_matching.idc_step(source(), kept, torch.optim.SGD([kept], lr=0.1), **how, **scale)
    check(theirs * REAL.n_classes, kept, ours, loss, state["image"])


def test_an_update_of_idm() -> None:
    at = moment(IDM(batch=9, net=NET, augment="none", queue=4), budget=Budget(ipc=2), real=REAL)
    state = {**at.state, "accuracy": torch.full((4,), 0.5)}
    image = state["image"].clone().requires_grad_()
    loss = at.method.loss({**state, "image": image}, {**at.batch, "real": whole_classes()})
    ours, kept = moved(loss, image), state["image"].clone().requires_grad_()
    how = {"batch": 9, "strategy": "none", "net": plain(entry(state, int(at.batch["matched"]))), "trust": 25.0}
    theirs = official_matching.idm_step(source(), kept, torch.optim.SGD([kept], lr=0.1), **how)
    check(theirs * REAL.n_classes, kept, ours, loss, state["image"])


def test_an_update_of_mtt() -> None:
    net = net_of(NET, REAL)
    begin, goal = (net.init(Seeds(s)) for s in (1, 2))
    start = REAL.draw(torch.tensor([0, 1, 9, 10]))
    target, rate = one_hot(REAL.labels[[0, 1, 9, 10]], REAL.n_classes).float(), torch.tensor(0.05, requires_grad=True)
    image = start.clone().requires_grad_()
    end = unroll(net, begin, image, target, rate, index=[torch.arange(4)] * 3)
    loss = trajectory_distance(end, goal, begin)
    by_image, by_rate = torch.autograd.grad(loss, (image, rate))
    kept, free = start.clone().requires_grad_(), rate.detach().clone().requires_grad_()
    optimiser = torch.optim.SGD([kept, free], lr=1.0)
    theirs = official_matching.mtt_step(
        plain(begin), begin, goal, kept, target, free, optimiser, steps=3, strategy="none"
    )
    check(theirs, kept, start - by_image, loss, start)
    assert float(rate.detach() - by_rate) == pytest.approx(float(free.detach()), rel=1e-4)
