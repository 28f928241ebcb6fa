"""NCFM's loss and gradient against complex exponentials, one class at a time; its two updates against torch's AdamW."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from plain_matching import slopes
from torch.nn.functional import cross_entropy

import attar.testing
from attar.augment import idc
from attar.budget import Budget
from attar.distill.ncfm import NCFM
from attar.errors import UsageError
from attar.match import sampler as sampling
from attar.match.characteristic import characteristic
from attar.match.layers import shares
from attar.match.sampler import first
from attar.nets.fit import net_of
from attar.params import tiles
from attar.run import Descent
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import method_of

F = 40


def setting(p, **how):
    """A method, state and batch in float64 for a problem; images in [0, 1], and the plain side's ingredients."""
    method = NCFM(net=p.spec, frequencies=F, **how)
    g = torch.Generator().manual_seed(5)
    side, channels = p.kept.shape[3], p.kept.shape[1]
    mean, std = (torch.rand(2, channels, 1, 1, generator=g, dtype=torch.float64) + 0.1).unbind(0)
    image = torch.rand(p.kept.shape, generator=g, dtype=torch.float64)
    ops = idc.draw("color_crop_cutout", p.classes, g, size=(side, side))
    ops = {n: v.double() if v.is_floating_point() else v for n, v in ops.items()}
    width = p.net.features(p.params, p.kept).shape[1]
    t = torch.randn(F, width, generator=g, dtype=torch.float64)
    target = [torch.view_as_real(plain_phi(p, x, k, ops, t)).T for k, x in enumerate(p.real)]  # [2, F] each
    state = {"image": image, "label": p.label, "mean": mean, "std": std}
    batch = {
        "augment": ops,
        "net": p.params,
        "trained": p.params,
        "frequencies": {"0": t},
        "target": {"0": torch.stack(target, 1).detach()},
    }
    return method, state, batch


def plain_phi(p, x: torch.Tensor, k: int, ops: dict, t: torch.Tensor) -> torch.Tensor:
    """Images [B, C, H, W] of class k -> complex [F]: the mean of exp(i <t, f>), image by image."""
    total = torch.zeros(len(t), dtype=torch.complex128)
    for one in x:
        f = p.plain.features(idc.augment(one[None], {n: v[[k]] for n, v in ops.items()}))[0]
        total = total + torch.exp(1j * (t @ (f / f.norm())).to(torch.complex128))
    return total / len(x)


def plain_images(method: NCFM, state: dict, image: torch.Tensor, k: int) -> torch.Tensor:
    """The decoded images of class k: tiles cut out by hand, enlarged by torch."""
    h = image.shape[2] // method.factor
    parts = [
        torch.nn.functional.interpolate(x[None, :, i : i + h, j : j + h], size=image.shape[2:], mode="bilinear")
        for x in image[state["label"] == k]
        for i in range(0, image.shape[2], h)
        for j in range(0, image.shape[3], h)
    ]
    return (torch.cat(parts) - state["mean"]) / state["std"]


def plain_loss(p, method: NCFM, state: dict, batch: dict, image: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for k in range(p.classes):
        phi = plain_phi(p, plain_images(method, state, image, k), k, batch["augment"], batch["frequencies"]["0"])
        real = torch.complex(*batch["target"]["0"][:, k])
        amplitude = (real.abs() - phi.abs()) ** 2
        phase = 2 * real.abs() * phi.abs() * (1 - torch.cos(real.angle() - phi.angle()))
        total = total + 300 * (method.alpha * amplitude + (1 - method.alpha) * phase).sqrt().mean()
    return total


@pytest.mark.parametrize("alpha, factor", [(0.5, 2), (0.9, 1), (0.1, 4)])
@pytest.mark.parametrize("counts", [(2, 3, 1), (1, 1)])
def test_loss_and_gradient_equal_complex_exponentials(make_problem, counts, alpha: float, factor: int) -> None:
    p = make_problem(counts=counts)
    method, state, batch = setting(p, alpha=alpha, factor=factor)
    ours, theirs = state["image"].clone().requires_grad_(), state["image"].clone().requires_grad_()
    loss, plain = method.loss({**state, "image": ours}, batch), plain_loss(p, method, state, batch, theirs)
    assert torch.allclose(loss, plain, rtol=1e-7)
    loss.backward()
    plain.backward()
    assert ours.grad.norm() > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7 * float(theirs.grad.abs().max()))


def test_at_one_half_it_is_the_distance_of_the_functions(make_problem) -> None:
    p = make_problem()
    method, state, batch = setting(p)
    total = 0.0
    for k in range(p.classes):
        phi = plain_phi(
            p, plain_images(method, state, state["image"], k), k, batch["augment"], batch["frequencies"]["0"]
        )
        total += 300 * float((phi.detach() - torch.complex(*batch["target"]["0"][:, k])).abs().mean()) / math.sqrt(2)
    assert float(method.loss(state, batch)) == pytest.approx(total, rel=1e-8)


def test_gradients_by_finite_differences(make_problem) -> None:
    p = make_problem(act="swish")
    method, state, batch = setting(p, alpha=0.3)
    for loss in (method.loss, method.calibration):
        image = state["image"].clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss({**state, "image": image}, batch), image)
        where, found = slopes(lambda x, loss=loss: loss({**state, "image": x}, batch), state["image"], places=60)
        assert found.abs().max() > 1e-3
        assert torch.allclose(grad.flatten()[where], found, rtol=1e-5, atol=1e-6)


def test_calibration_is_the_cross_entropy_of_each_class(make_problem) -> None:
    p = make_problem()
    method, state, batch = setting(p)
    total = 0.0
    for k in range(p.classes):
        x = plain_images(method, state, state["image"], k)
        logits = p.plain(idc.augment(x, {n: v[[k] * len(x)] for n, v in batch["augment"].items()}))
        total += float(cross_entropy(logits, torch.full((len(x),), k)).detach())
    assert float(method.calibration(state, batch)) == pytest.approx(total, rel=1e-9)


def test_a_step_is_two_of_adamw_at_the_rate_of_all_classes(make_problem) -> None:
    p = make_problem()
    method, state, batch = setting(p, lr_img=0.01)
    image = state["image"].clone().requires_grad_()
    adam = torch.optim.AdamW([image], lr=0.01 * math.sqrt(3), weight_decay=0)
    state |= method.learned(state)["image"].slots("image", state["image"])
    descent = Descent(method, 4, losses=[[]])
    for _ in range(4):
        state = method.step(state, batch, descent)
        for loss in (method.loss, method.calibration):
            adam.zero_grad()
            loss({**state, "image": image}, batch).backward()
            adam.step()
            image.data.clamp_(0, 1)
        assert torch.allclose(state["image"], image.data, rtol=1e-9)
    assert len(descent.losses[0]) == 8 and state["image"].min() >= 0 and state["image"].max() <= 1


def test_draw_mixes_first_and_trained_weights_and_takes_each_class() -> None:
    real, seeds = toy((9, 7, 4), channels=3), Seeds(3).at("step", 5)
    method = NCFM(net="convnet:width=4:depth=2", batch=6, frequencies=7, experts=1, epochs=2)
    expert = method.needs()[0]
    res = {"expert-0": expert.init(real, None, Seeds(1), {})}
    res["expert-0"] = {n: torch.full_like(v, 0.25) if "delta" in n else v for n, v in res["expert-0"].items()}
    batch = method.draw(real, seeds, res, 5)
    first = res["expert-0"]["start.classifier.weight"]
    assert torch.allclose(batch["trained"]["classifier.weight"], first + 0.25, atol=1e-6)
    moved = (batch["net"]["classifier.weight"] - first) / 0.25
    assert float(moved.min()) >= 0 and float(moved.max() - moved.min()) < 1e-5 and float(moved.max()) <= 1
    net = net_of(method.net, real)
    for k, rows in enumerate(real.sample(6, seeds.generator("real"))):
        x = idc.augment(real.draw(rows), {n: v[[k] * 6] for n, v in batch["augment"].items()})
        f = torch.nn.functional.normalize(net.features(batch["net"], x))
        assert torch.allclose(
            characteristic(f, batch["frequencies"]["0"]).mean(1), batch["target"]["0"][:, k], atol=1e-5
        )


def test_what_is_stored_is_in_the_range_of_pictures_and_decodes_to_the_rows() -> None:
    real, method = toy((9, 7), channels=3, size=(8, 8)), NCFM(factor=2)
    state = method.init(real, Budget(ipc=2), Seeds(0), {})
    rows = method.finish(state, {})
    assert state["image"].min() >= 0 and state["image"].max() <= 1
    assert len(rows) == 16 and rows.columns["label"].tolist() == [0] * 8 + [1] * 8
    assert torch.allclose(real.pixels(rows.columns["image"]), tiles.decode(state["image"], 2), atol=1e-5)


def plain_sampler(sampler: dict) -> torch.nn.Sequential:
    """The sampling network out of torch's modules."""
    layers: list[torch.nn.Module] = []
    for i in range(3):
        width = len(sampler[f"sampler.{i}.bias"])
        line, norm = torch.nn.Linear(width, width).double(), torch.nn.BatchNorm1d(width).double()
        with torch.no_grad():
            for module, names in ((line, ("weight", "bias")), (norm, ("scale", "shift"))):
                for own, name in zip((module.weight, module.bias), names):
                    own.copy_(sampler[f"sampler.{i}.{name}"])
        layers += [line, norm, torch.nn.LeakyReLU(0.2) if i < 2 else torch.nn.Tanh()]
    return torch.nn.Sequential(*layers)


def test_images_descend_what_the_sampler_climbs(make_problem) -> None:
    """Loss and both gradients against modules, with real images that see the frequencies too."""
    p = make_problem()
    _, state, batch = setting(p)
    method = NCFM(net=p.spec, frequencies=16 * 9, sampler=True)
    width = batch["frequencies"]["0"].shape[1]
    g = torch.Generator().manual_seed(2)
    state |= {n: v.double() + 0.1 * torch.randn(v.shape, generator=g) for n, v in first(width, Seeds(3)).items()}
    noise = torch.randn(method.learnable, width, generator=g, dtype=torch.float64)
    seen = torch.nn.functional.normalize(torch.randn(p.classes, 5, width, generator=g, dtype=torch.float64), dim=2)
    leaves = {n: state[n].clone().requires_grad_() for n in method.learn}
    loss = method.loss({**state, **leaves}, {**batch, "noise": noise, "seen": seen})
    grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
    net, image = plain_sampler(state), state["image"].clone().requires_grad_()
    t = net(noise)
    target = torch.stack([torch.stack([(f @ t.T).cos().mean(0), (f @ t.T).sin().mean(0)]) for f in seen], 1)
    plain = plain_loss(p, method, state, {**batch, "frequencies": {"0": t}, "target": {"0": target}}, image)
    assert torch.allclose(loss, plain, rtol=1e-8)
    plain.backward()
    assert torch.allclose(grads["image"], image.grad, rtol=1e-5, atol=1e-7 * float(image.grad.abs().max()))
    for i in range(3):
        for module, names in ((net[3 * i], ("weight", "bias")), (net[3 * i + 1], ("scale", "shift"))):
            for own, name in zip((module.weight, module.bias), names):
                assert torch.allclose(
                    grads[f"sampler.{i}.{name}"], -own.grad, rtol=1e-5, atol=1e-8 * float(loss.detach())
                )
    assert float(grads["sampler.0.weight"].norm()) > 0


@pytest.mark.parametrize("check", ["same_seed_same_bytes", "resume_same_bytes", "several_budgets", "artifact_opens"])
def test_with_the_sampler_it_passes_what_a_method_must(check: str) -> None:
    attar.testing.CHECKS[check](dataclasses.replace(method_of("ncfm"), sampler=True, frequencies=64))


def test_the_sampler_finds_larger_gaps_than_chance() -> None:
    """With the kept images standing still, the loss that it climbs grows."""
    real = toy((9, 7), channels=3, size=(8, 8))
    method = NCFM(
        net="convnet:width=8:depth=1", batch=7, frequencies=256, sampler=True, lr_sampler=0.05, experts=1, epochs=1
    )
    state = method.init(real, Budget(ipc=1), Seeds(0), {})
    for name, opt in method.learned(state).items():
        state |= opt.slots(name, state[name])
    expert = method.needs()[0]
    res = {"expert-0": expert.init(real, None, Seeds(1), {})}
    batches = [method.draw(real, Seeds(0).at("step", t), res, t) for t in range(3)]
    before = sum(float(method.loss(state, b)) for b in batches)
    descent = Descent(method, 40, losses=[[]])
    for t in range(40):
        state = descent(state, method.loss, method.draw(real, Seeds(0).at("step", t), res, t), sampling.NAMES)
    assert sum(float(method.loss(state, b)) for b in batches) > 1.05 * before


def plain_blocks(plain, x: torch.Tensor) -> list[torch.Tensor]:
    """What each block of a ConvNet gives, its pooling done, flattened: part by part."""
    given = []
    for part in plain.body:
        if isinstance(part, torch.nn.Conv2d):
            given.append(x)
        x = part(x)
    return [v.flatten(1) for v in [*given[1:], x]]


@pytest.mark.parametrize("layers", ["1", "2", "1_2", "2_1"])
def test_several_layers_sum_their_losses(make_problem, layers: str) -> None:
    """Value and gradient against complex exponentials of each block's output, class by class, image by image."""
    p = make_problem(counts=(2, 3, 1))
    method, state, batch = setting(p, layers=layers, alpha=0.7)
    chosen = [int(n) - 1 for n in layers.split("_")]
    g = torch.Generator().manual_seed(8)
    t = [torch.randn(F, plain_blocks(p.plain, p.kept)[n].shape[1], generator=g, dtype=torch.float64) for n in chosen]

    def phi(x: torch.Tensor, k: int) -> list[torch.Tensor]:
        total = [torch.zeros(F, dtype=torch.complex128) for _ in chosen]
        for one in x:
            given = plain_blocks(p.plain, idc.augment(one[None], {n: v[[k]] for n, v in batch["augment"].items()}))
            for i, n in enumerate(chosen):
                f = given[n][0]
                total[i] = total[i] + torch.exp(1j * (t[i] @ (f / f.norm())).to(torch.complex128))
        return [v / len(x) for v in total]

    wanted = [[v.detach() for v in phi(x, k)] for k, x in enumerate(p.real)]  # of each class, of each layer
    targets = {
        str(i): torch.stack([torch.view_as_real(of_class[i]).T for of_class in wanted], 1) for i in range(len(chosen))
    }
    batch |= {"frequencies": {str(i): v for i, v in enumerate(t)}, "target": targets}
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    x = idc.augment(p.real.flatten(0, 1), {n: v[label] for n, v in batch["augment"].items()})
    found = method._wanted(p.net, p.params, x, shares(label, p.classes, x.dtype), t)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found, targets.values(), strict=True))

    ours, theirs = state["image"].clone().requires_grad_(), state["image"].clone().requires_grad_()
    plain = torch.zeros((), dtype=torch.float64)
    for k in range(p.classes):
        for a, b in zip(phi(plain_images(method, state, theirs, k), k), wanted[k], strict=True):
            amplitude = (a.abs() - b.abs()) ** 2
            phase = 2 * (a.abs() * b.abs() - (a * b.conj()).real)
            plain = plain + 300 * (0.7 * amplitude + 0.3 * phase).sqrt().mean()
    loss = method.loss({**state, "image": ours}, batch)
    assert torch.allclose(loss, plain, rtol=1e-7)
    loss.backward()
    plain.backward()
    assert ours.grad.norm() > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7 * float(theirs.grad.abs().max()))


def test_the_last_block_alone_is_what_the_features_are() -> None:
    real, seeds = toy((9, 7, 4), channels=3), Seeds(3).at("step", 5)
    how: dict = {"net": "convnet:width=4:depth=2", "batch": 6, "frequencies": 7, "experts": 1, "epochs": 2}
    res = {"expert-0": NCFM(**how).needs()[0].init(real, None, Seeds(1), {})}
    last, second, both = (NCFM(**how, layers=layers) for layers in ("last", "2", "2_1"))
    state = last.init(real, Budget(ipc=2), seeds, {})
    a, b, c = (m.draw(real, seeds, res, 5) for m in (last, second, both))
    assert torch.equal(a["frequencies"]["0"], b["frequencies"]["0"])
    assert torch.allclose(a["target"]["0"], b["target"]["0"], atol=1e-6)
    assert torch.allclose(last.loss(state, a), second.loss(state, b), rtol=1e-5)
    assert float(both.loss(state, c)) > 1.2 * float(second.loss(state, b))
    assert c["frequencies"]["1"].shape[1] == 4 * (real.shape[1] // 2) ** 2


@pytest.mark.parametrize(
    "check", ["same_seed_same_bytes", "resume_same_bytes", "several_budgets", "cost_of_memory", "artifact_opens"]
)
def test_with_several_layers_it_passes_what_a_method_must(check: str) -> None:
    attar.testing.CHECKS[check](dataclasses.replace(method_of("ncfm"), net="convnet:width=4:depth=2", layers="1_2"))


def test_layers_that_a_network_has_not_are_refused_before_the_run() -> None:
    real = toy((9, 7), channels=3, size=(8, 8))
    with pytest.raises(UsageError, match="layers=2_7 name block 7, but the network has 2; take blocks from 1 to 2"):
        NCFM(net="convnet:width=4:depth=2", layers="2_7").cost(real, Budget(ipc=1))
    with pytest.raises(UsageError, match="offers no layers"):
        NCFM(net="mlp", layers="1").cost(real, Budget(ipc=1))
    for layers in ("", "0", "1_1", "1,2", "-1", "first"):
        with pytest.raises(UsageError, match="neither last nor blocks"):
            NCFM(layers=layers)
    with pytest.raises(UsageError, match="of the last layer alone"):
        NCFM(layers="1", sampler=True)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="frequencies=16 leave the sampler"):
        NCFM(sampler=True, frequencies=16)
    for how, word in (({"alpha": 1.5}, "alpha=1.5"), ({"epochs": 0}, "epochs=0"), ({"augment": "blur"}, "blur")):
        with pytest.raises(UsageError, match=word):
            NCFM(**how)
