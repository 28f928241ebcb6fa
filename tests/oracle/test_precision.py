"""Half precision for the networks: runs work, and gradients keep their direction."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import cosine_similarity

from attar.budget import Budget
from attar.distill.dc import DC
from attar.distill.dcc import DCC
from attar.distill.dm import DM
from attar.distill.dsa import DSA
from attar.distill.idc import IDC
from attar.execute.pieces import features
from attar.execute.plan import Plan
from attar.match import gradients as gradient_matching
from attar.match.barycentre import barycentre
from attar.match.characteristic import characteristic
from attar.match.gradients import class_distances, slots
from attar.match.means import class_means
from attar.match.representatives import lloyd
from attar.method import Method
from attar.nets.fit import net_of
from attar.run import run
from attar.seeds import Seeds
from attar.testing.hooks import gradients
from attar.testing.toys import toy
from attar.testing.trial import moment

NET = "convnet:width=16:depth=2"


def images(method: Method, dtype: str) -> torch.Tensor:
    real = toy((20, 20, 20), channels=3, size=(12, 12))
    return run(method, real, [Budget(ipc=2)], seed=0, plan=Plan(dtype=dtype)).states[0]["image"]


@pytest.mark.parametrize(
    "method",
    [
        DM(batch=16, net=NET),
        DC(batch=16, net=NET),
        DSA(batch=16, net=NET, augment="color_crop_cutout_flip_scale_rotate"),
        DCC(batch=16, net=NET),
        IDC(batch=16, net=NET),
        IDC(batch=16, net=NET, metric="l1"),
    ],
    ids=lambda m: f"{type(m).__name__}-{getattr(m, 'metric', 'cos')}",
)
def test_the_gradient_in_bfloat16_points_where_float32_does(method: Method) -> None:
    found = []
    for dtype in ("float32", "bfloat16"):
        with Plan(dtype=dtype).applied():
            found.append(gradients(moment(method, real=toy((20, 20, 20), channels=3, size=(12, 12))))["image"])
    assert not torch.equal(*found)
    assert float(cosine_similarity(*(g.flatten() for g in found), dim=0)) > 0.99


@pytest.mark.parametrize("method", [DM(steps=5, batch=8, net=NET), DC(steps=5, batch=8, net=NET, outer=2, inner=2)])
def test_a_run_in_bfloat16_keeps_its_images_in_float32(method: Method) -> None:
    half, whole = images(method, "bfloat16"), images(method, "float32")
    start = images(dataclasses.replace(method, steps=1, lr_img=1e-12), "float32")
    assert half.dtype == torch.float32
    assert torch.equal(half, images(method, "bfloat16"))
    assert not torch.equal(half, whole)
    assert float((half - whole).norm()) < 0.2 * float((whole - start).norm())  # less than the way they went


def test_means_are_not_rounded_to_half_precision() -> None:
    """What is matched is the difference of two means, which half precision would round away."""
    real = toy((50, 50), channels=3, size=(12, 12))
    net = net_of(NET, real)
    params, x = net.init(Seeds(0)), real.draw(torch.arange(100))
    with Plan(dtype="bfloat16").applied():
        f = features(net, params, x)
        half = class_means(f, real.labels, 2)
    assert f.dtype == half.dtype == torch.float32
    assert torch.allclose(half, class_means(f, real.labels, 2), rtol=1e-6)
    exact = torch.stack([f[real.labels == k].double().mean(0) for k in range(2)])
    assert torch.allclose(half.double(), exact, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_derivatives_of_cosines_of_gradients_are_taken_in_float32(compiled: bool) -> None:
    """With the real side's gradient as given, nothing of the kept side is rounded."""
    real = toy((20, 20), channels=3, size=(12, 12))
    net = net_of(NET, real)
    params, x = net.init(Seeds(0)), real.draw(torch.arange(40)).unflatten(0, (2, 20))
    kept, parts = real.draw(torch.arange(4)), slots(torch.tensor([0, 0, 1, 1]), 2)
    found = []
    for dtype in ("float32", "bfloat16"):
        with Plan(dtype=dtype, compiled=compiled).applied(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(gradient_matching, "real_gradient", lambda net, params, x, k, measure: target(params))
            leaf = kept.clone().requires_grad_()
            loss = class_distances(net, params, x, leaf, parts["slot"], parts["share"])
            found.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
            assert torch.is_autocast_enabled("cpu") is (dtype == "bfloat16")  # as it was
    (a, da), (b, db) = found
    assert torch.equal(a, b) and torch.equal(da, db) and float(da.abs().max()) > 0


def target(params: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Some gradient of the weights that are matched."""
    g = torch.Generator().manual_seed(1)
    return {k: torch.randn(v.shape, generator=g) for k, v in params.items() if v.ndim > 1}


def test_characteristic_functions_and_centres_are_not_rounded_to_half_precision() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    t = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
    found = []
    for dtype in ("float32", "bfloat16"):
        with Plan(dtype=dtype).applied():
            centres = lloyd(x, 3, torch.Generator().manual_seed(2))
            found.append([characteristic(x, t), centres, barycentre(x, 3, torch.Generator().manual_seed(2))])
    for whole, half in zip(*found):
        assert half.dtype == torch.float32 and torch.allclose(half, whole, rtol=1e-5, atol=1e-6)
