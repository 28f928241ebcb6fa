"""CAFE's loss, gradient and its two watched loops against plain code: one class at a time, torch's own optimisers."""

from __future__ import annotations

import copy

import pytest
import torch
from plain_matching import of_class, slopes, transformed
from torch import nn
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment, draw
from attar.distill.cafe import CAFE, accuracy
from attar.errors import UsageError
from attar.nets.fit import prefixed
from attar.run import Descent
from attar.seeds import Seeds
from attar.testing.toys import toy


def plain_layers(net, x: torch.Tensor) -> list[torch.Tensor]:
    """[B, C, H, W] -> every map before its pooling, then the last pooled map."""
    found = []
    for part in net.body:
        x = part(x)
        if isinstance(part, (nn.ReLU, nn.SiLU)):
            found.append(x)
    return [*found, x]


def plain_loss(net, real, image, label, ops, *, early: float, beta: float) -> torch.Tensor:
    """The official sum term by term, the last pooled map and its flat form both; real: [K, B, C, H, W]."""
    total, centres, features = torch.zeros((), dtype=image.dtype), [], []
    for k, of_real in enumerate(real):
        kept = image[label == k]
        r = plain_layers(net, transformed(of_real, of_class(ops, k, len(of_real))))
        s = plain_layers(net, transformed(kept, of_class(ops, k, len(kept))))
        for i, (a, b) in enumerate(zip(r, s)):
            weight = early if i < len(r) - 2 else 1.0
            total = total + weight * ((a.mean(0).detach() - b.mean(0)) ** 2).sum()
        flat = (r[-1].flatten(1), s[-1].flatten(1))
        total = total + ((flat[0].mean(0).detach() - flat[1].mean(0)) ** 2).sum()
        features.append(flat[0].detach())
        centres.append(flat[1].mean(0))
    for k, of_k in enumerate(features):
        for f in of_k:
            scores = torch.stack([(f * centre).sum() for centre in centres])
            total = total + beta * (scores.logsumexp(0) - scores[k])
    return total


def loss_of(p, image: torch.Tensor, **how: float) -> torch.Tensor:
    """As CAFE.draw does: the real images come transformed."""
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    real = augment(p.real.flatten(0, 1), p.rows(p.ops, label)).unflatten(0, p.real.shape[:2])
    state = {"image": image, "label": p.label, **prefixed(p.params)}
    return CAFE(net=p.spec, **how).loss(state, {"real": real, "augment": p.ops})


@pytest.mark.parametrize("early, beta", [(0.1, 0.01), (2.0, 1.0)])
@pytest.mark.parametrize("counts, depth", [((2, 3, 1), 2), ((1, 1), 3)])
def test_loss_and_gradient_equal_plain_loops(make_problem, counts, depth: int, early: float, beta: float) -> None:
    p = make_problem(counts=counts, depth=depth)
    ours, theirs = p.kept.clone().requires_grad_(), p.kept.clone().requires_grad_()
    loss = loss_of(p, ours, early=early, beta=beta)
    plain = plain_loss(p.plain, p.real, theirs, p.label, p.ops, early=early, beta=beta)
    assert torch.allclose(loss, plain, rtol=1e-11)
    loss.backward()
    plain.backward()
    assert ours.grad.norm() > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-9, atol=1e-11)


def test_gradient_by_finite_differences(make_problem) -> None:
    p = make_problem(act="swish")
    image = p.kept.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss_of(p, image, beta=0.5), image)
    where, found = slopes(lambda x: loss_of(p, x, beta=0.5), p.kept, places=60)
    assert found.abs().max() > 1e-2
    assert torch.allclose(grad.flatten()[where], found, rtol=1e-6, atol=1e-6)


def plain_accuracy(net, watch: torch.Tensor) -> float:
    return float(torch.stack([(net(x).argmax(1) == k).float().mean() for k, x in enumerate(watch)]).mean())


def plain_run(method: CAFE, net, batches: list, image: torch.Tensor, label: torch.Tensor) -> tuple[list, list, list]:
    """Images after every update, whether it began a network, and the epochs that followed it."""
    image, images, began, epochs = image.clone().requires_grad_(), [], [], []
    optimiser = torch.optim.SGD([image], lr=method.lr_img, momentum=method.momentum)
    watched: list[float] | None = None
    for at, batch in enumerate(batches):
        began.append(watched is None)
        if watched is None:
            net.load_state_dict(batch["net"])
            trainer, watched = torch.optim.SGD(net.parameters(), lr=method.lr_net), []
        rate = method.lr_img
        for milestone in (0.6, 0.8, 0.9):
            rate *= 0.5 if at >= milestone * method.steps else 1
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        how = {"early": method.early, "beta": method.beta}
        plain_loss(net, batch["real"], image, label, None, **how).backward()
        optimiser.step()
        images.append(image.detach().clone())
        watched.append(plain_accuracy(net, batch["watch"]))
        epochs.append(0)
        last = watched[-10:]
        if len(watched) == method.outer or (len(last) == 10 and max(last) - min(last) < method.lambda_1):
            watched = None
            continue
        seen: list[float] = []
        while epochs[-1] < method.inner and not (len(seen) == 10 and max(seen) - min(seen) > method.lambda_2):
            trainer.zero_grad()
            cross_entropy(net(image.detach()), label).backward()
            trainer.step()
            epochs[-1] += 1
            seen = [*seen, plain_accuracy(net, batch["watch"])][-10:]
    return images, began, epochs


SETTINGS = {
    "left at the limits": {"outer": 3, "inner": 2},
    "left where accuracy stands still": {"outer": 40, "inner": 11, "lambda_1": 0.6},
    "trained until accuracy moves": {"outer": 12, "inner": 30, "lambda_1": 1e-9, "lambda_2": 0.02, "lr_net": 0.1},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_watched_loops_are_those_of_plain_code(make_problem, name: str) -> None:
    p = make_problem(counts=(2, 2, 1), depth=2, side=8)
    method = CAFE(net=p.spec, steps=14, lr_img=0.2, augment="none", **SETTINGS[name])
    g = torch.Generator().manual_seed(3)
    batches = []
    for step in range(method.steps):
        fresh = {k: v.double() for k, v in p.net.init(Seeds(step)).items()}
        pair = [torch.randn(3, n, 3, 8, 8, generator=g, dtype=torch.float64) + p.real[:, :1] for n in (4, 20)]
        batches.append({"real": pair[0], "watch": pair[1], "net": fresh})
    images, began, epochs = plain_run(method, copy.deepcopy(p.plain), batches, p.kept, p.label)

    state = {"image": p.kept.clone(), "label": p.label, **prefixed(p.params), "accuracy": torch.zeros(10)}
    state |= {"updates": torch.tensor(0), "followed": torch.tensor(0)}
    state |= method.learned(state)["image"].slots("image", state["image"])
    descent = Descent(method, method.steps, losses=[[]])
    for step, batch in enumerate(batches):
        assert (int(state["followed"]) == 0) == began[step]
        whole = {**batch, "augment": none(3), "strategy": "none", "seeds": Seeds(0).at("step", step)}
        state = method.step(state, whole, descent)
        assert torch.allclose(state["image"], images[step], rtol=1e-8, atol=1e-10), step
    assert int(state["updates"]) == method.steps
    assert began[0] and not all(began)
    if "still" in name:
        assert 10 in [i for i, b in enumerate(began) if b]
    if "moves" in name:
        assert {e for e in epochs if e} - {method.inner}  # one training at least ended by itself


def none(k: int) -> dict[str, torch.Tensor]:
    """Siamese parameters of k rows without an operation."""
    return draw("none", k, torch.Generator().manual_seed(0), size=(8, 8), one_op=False)


def test_the_rate_is_halved_three_times() -> None:
    method = CAFE(steps=100)
    rates = [method.learned({"updates": torch.tensor(at)})["image"].lr for at in (0, 59, 60, 79, 80, 89, 90, 99)]
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]


def test_accuracy_is_the_mean_over_classes(make_problem) -> None:
    p = make_problem(batch=7)
    assert accuracy(p.net, p.params, p.real) == pytest.approx(plain_accuracy(p.plain, p.real), abs=1e-6)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="lambda_2=0 must be"):
        CAFE(lambda_2=0)
    with pytest.raises(UsageError, match="offers no layers"):
        m = CAFE(net="mlp", batch=2, watch=2)
        real = toy((3, 3))
        state = {"image": torch.zeros(2, *real.shape), "label": torch.tensor([0, 1])}
        batch = m.draw(real, Seeds(0), {}, 0)
        m.loss({**state, **prefixed(batch["net"])}, batch)
