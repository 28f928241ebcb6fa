"""Factored gradients against outer products that are really formed, and against autograd; GraNd against both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy, linear

import attar.testing.trial as trial
from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import Resources
from attar.nets.fit import net_of
from attar.real.realset import RealSet
from attar.resources.gradients import Gradients, Replica, parts, residuals, taught
from attar.resources.network import TrainedNetwork
from attar.seeds import Seeds
from attar.select.factored import Factors, correlation, distances, factors_of, inner, norms, total
from attar.select.grand import GraNd
from attar.testing.toys import toy, unlabelled

NET = "convnet:width=4:depth=1"


def random(n: int = 12, k: int = 3, d: int = 5, seed: int = 0) -> tuple[Factors, torch.Tensor]:
    """Gradients of random logits and labels; 3 and 4 are twins, 5 has features of 0."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, generator=g, dtype=torch.float64)
    h = torch.randn(n, d, generator=g, dtype=torch.float64)
    labels = torch.randint(0, k, (n,), generator=g)
    logits[4], h[4], labels[4], h[5] = logits[3], h[3], labels[3], 0
    return Factors(residuals(logits, labels), h), labels


def outer(x: Factors) -> torch.Tensor:
    """The gradients themselves: [n, K (D + 1)]."""
    rows = []
    for a, h in zip(x.a, x.h):
        rows.append(torch.outer(a, torch.cat([h, torch.ones(1, dtype=h.dtype)])).flatten())
    return torch.stack(rows)


def test_factors_are_the_gradient_of_a_linear_head() -> None:
    g = torch.Generator().manual_seed(1)
    h = torch.randn(9, 5, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 4, (9,), generator=g)
    head = {"w": torch.randn(4, 5, generator=g).double(), "b": torch.randn(4, generator=g).double()}

    def loss(head: dict[str, torch.Tensor], h: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(linear(h, head["w"], head["b"])[None], y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(head, h, labels)
    wanted = torch.cat([each["w"], each["b"][:, :, None]], dim=2).flatten(1)
    x = Factors(residuals(linear(h, head["w"], head["b"]), labels), h)
    assert torch.allclose(outer(x), wanted, atol=1e-12)
    assert torch.allclose(norms(x), wanted.norm(dim=1))


def test_every_product_is_that_of_the_outer_products() -> None:
    (x, _), (y, _) = random(), random(7, seed=2)
    gx, gy = outer(x), outer(y)
    assert torch.allclose(inner(x, y), gx @ gy.T, atol=1e-12)
    assert torch.allclose(norms(x), gx.norm(dim=1))
    assert torch.allclose(distances(x, y), torch.cdist(gx, gy), atol=1e-9)
    assert float(distances(x, x)[3, 4]) < 1e-7
    assert torch.allclose(total(x).flatten(), gx.sum(0), atol=1e-12)
    m = torch.randn(3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.allclose(correlation(x, m), gx @ m.flatten(), atol=1e-12)
    assert torch.allclose(x.at(torch.tensor([2, 5])).a, x.a[[2, 5]])


def test_a_constant_on_all_logits_changes_nothing() -> None:
    logits, labels = torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.allclose(residuals(logits, labels), residuals(logits + 50, labels))
    assert torch.allclose(residuals(logits, labels).sum(1), torch.zeros(6).double(), atol=1e-12)


@dataclass(frozen=True)
class Asks:
    """Anything that needs some resources."""

    asked: tuple[Gradients, ...]

    def needs(self) -> tuple[Gradients, ...]:
        return self.asked


@pytest.fixture(scope="module")
def built() -> tuple[RealSet, GraNd, Resources]:
    method = GraNd(net=NET, epochs=1, networks=2)
    factors = Asks((Gradients(net=NET, epochs=1, number=0), Gradients(net=NET, epochs=1, number=1)))
    return toy(), method, {**trial.resources(factors, toy()), **trial.resources(method, toy())}


def test_the_resource_holds_what_the_trained_network_says(built: tuple[RealSet, GraNd, Resources]) -> None:
    real, method, res = built
    net = net_of(NET, real)
    for number, name in ((0, "network"), (1, "network-1")):
        made, params = res[f"gradients-{number}"], dict(res[name])
        assert not made["held"].any()
        for i in (0, 7, len(real) - 1):
            x = real.draw(torch.tensor([i]))
            assert torch.allclose(made["logits"][i], net(params, x, train=False)[0], atol=1e-5)
            assert torch.allclose(made["hidden"][i], net.features(params, x, train=False)[0], atol=1e-5)
    assert not torch.allclose(res["gradients-0"]["logits"], res["gradients-1"]["logits"], atol=1e-2)
    assert method.needs()[0].needs() == (TrainedNetwork(net=NET, epochs=1),)


def test_grand_is_the_mean_length_and_keeps_the_longest(built: tuple[RealSet, GraNd, Resources]) -> None:
    real, method, res = built
    lengths = [outer(factors_of(real, res, torch.arange(len(real)), i)).norm(dim=1) for i in (0, 1)]
    wanted = torch.stack(lengths).double().mean(0)
    for number, length in enumerate(lengths):
        kept = res[f"gradient-norms-{number}"]
        assert set(kept) == {"norm", "held"} and torch.allclose(kept["norm"], length, rtol=1e-5)
    assert method.cost(real, Budget(rows=9)).memory < 30 * len(real)
    state = dataclasses.replace(method, balanced=False).init(real, Budget(rows=9), Seeds(), res)
    assert torch.allclose(state["gain"].double(), wanted[state["picked"]], rtol=1e-5)
    assert set(state["picked"].tolist()) == set(wanted.argsort(descending=True)[:9].tolist())
    skipped = dataclasses.replace(method, balanced=False, rule="top:skip=0.2").init(real, Budget(rows=9), Seeds(), res)
    assert skipped["picked"].tolist() == wanted.argsort(descending=True)[8:17].tolist()  # 0.2 of 42


def test_ties_go_to_the_lower_id_where_no_gradient_is_left() -> None:
    """One class: p = y, every length is 0."""
    real = toy((6,))
    method = GraNd(net=NET, epochs=0, networks=1)
    state = method.init(real, Budget(rows=3), Seeds(), trial.resources(method, real))
    assert state["picked"].tolist() == [0, 1, 2] and state["gain"].tolist() == [0, 0, 0]


def test_untrained_networks_are_asked_where_there_are_no_epochs() -> None:
    real, spec = toy(), Gradients(net=NET, epochs=0, number=1)
    assert spec.needs() == ()
    made = trial.resources(Asks((spec,)), real)
    net = net_of(NET, real)
    x = real.draw(torch.tensor([4]))
    logits = net(net.init(Seeds(0).at("gradients-1")), x, train=False)
    assert torch.allclose(made["gradients-1"]["logits"][4], logits[0], atol=1e-5)
    lengths = trial.resources(GraNd(net=NET, epochs=0, networks=2), real)["gradient-norms-1"]["norm"]
    assert torch.allclose(lengths, norms(factors_of(real, made, torch.arange(len(real)), 1)), rtol=1e-5)
    assert torch.allclose(
        made["gradients-1"]["hidden"][4], net.features(net.init(Seeds(0).at("gradients-1")), x, train=False)[0]
    )


class Headed(torch.nn.Module):
    """A network without a method ``features``: what enters its last linear layer is taken."""

    def __init__(self, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.body, self.head = (
            torch.nn.Conv2d(channels, 2, 3),
            torch.nn.Linear(2 * (size[0] - 2) * (size[1] - 2), classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).flatten(1))


def counted(work: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    """The same work, noted down."""

    def noted(*args: Any) -> Any:
        calls.append(1)
        return work(*args)

    return noted


@pytest.mark.parametrize("net", [NET, "resnet8", Headed])
def test_logits_and_features_come_from_one_forward(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = toy(), net_of(net, toy())
    convolutions: list[int] = []
    monkeypatch.setattr(torch.nn.Conv2d, "forward", counted(torch.nn.Conv2d.forward, convolutions))
    params, x = made.init(Seeds(0)), real.draw(torch.arange(5))
    logits, hidden = made.both(params, x, train=False)
    once = len(convolutions)
    assert torch.equal(logits, made(params, x, train=False)) and len(convolutions) == 2 * once > 0
    assert torch.equal(hidden, made.features(params, x, train=False))


def test_a_network_does_not_see_what_is_held_out() -> None:
    real = toy((10, 6, 1))
    kept, held = parts(real, 0.3, 4)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(17))
    assert real.labels[held].bincount(minlength=3).tolist() == [3, 2, 0]
    assert set(parts(real, 0.3, 5)[1].tolist()) != set(held.tolist())
    replica = Replica(net=NET, epochs=2, batch=4, held=0.3)
    seen = real.ids[kept].tolist()
    images = {tuple(x.flatten().tolist()) for x in taught(real, 0.3, 4).draw(torch.arange(len(kept)))}
    assert len(seen) == len(images) == 12
    for step in range(replica.length(real)):
        batch = replica.draw(real, Seeds(4).at("step", step), {}, step)
        assert {tuple(x.flatten().tolist()) for x in batch["image"]} <= images


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="epochs=-1"):
        Gradients(epochs=-1)
    with pytest.raises(UsageError, match="networks=0"):
        GraNd(networks=0)
    with pytest.raises(UsageError, match="did you mean 'top'"):
        GraNd(rule="topp")
    with pytest.raises(DataError, match="no classes"):
        Gradients(net=NET, epochs=0).init(unlabelled(), None, Seeds(), {})
    real = toy()
    logits = torch.zeros(len(real), 3)
    logits[11, 1] = torch.nan
    res = {"gradients-0": {"logits": logits, "hidden": torch.zeros(len(real), 2)}}
    with pytest.raises(DataError, match=rf"id {int(real.ids[11])} \(row 11"):
        factors_of(real, res, torch.arange(len(real)))
    norm = torch.ones(len(real))
    norm[11] = torch.inf
    method = GraNd(net=NET, epochs=0, networks=1)
    with pytest.raises(DataError, match=rf"id {int(real.ids[11])} \(row 11 of toy\) is not finite"):
        method.init(real, Budget(rows=3), Seeds(), {"gradient-norms-0": {"norm": norm}})
