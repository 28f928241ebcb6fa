"""Features: what is in them, that blocks and order do not matter, and what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.method import State
from attar.nets.fit import net_of
from attar.real.realset import RealSet, Splits
from attar.resources import features
from attar.resources.features import Features
from attar.resources.network import TrainedNetwork
from attar.resources.resource import needed
from attar.run import run
from attar.seeds import Seeds
from attar.select.herding import Herding
from attar.select.kcenter import KCenter
from attar.select.kmeans import KMeans
from attar.select.random import Random

MakeSet = Callable[..., RealSet]
Build = Callable[..., State]
NET = "convnet:width=8:depth=1"
BATCH_NET = "convnet:width=8:depth=1:norm=batch"


def test_pixels_are_the_normalised_images(make_set: MakeSet, build: Build) -> None:
    real = make_set()
    made = build(Features(), real)
    assert list(made) == ["features"]
    assert torch.equal(made["features"], real.draw(torch.arange(50)).flatten(1))


@pytest.mark.parametrize("spec", [NET, BATCH_NET])
def test_random_features_are_those_of_one_fixed_network_that_sees_images_alone(
    spec: str, make_set: MakeSet, build: Build
) -> None:
    real = make_set()
    made = build(Features(source="random", net=spec), real, seed=3)["features"]
    net = net_of(spec, real)
    params = net.init(Seeds(3).at("features"))
    one_by_one = [net.features(params, real.draw(torch.tensor([i])), train=False)[0] for i in range(50)]
    assert torch.allclose(made, torch.stack(one_by_one), atol=1e-5)
    assert made.std() > 0.01
    assert not torch.allclose(made, build(Features(source="random", net=spec), real, seed=4)["features"], atol=1e-3)


@pytest.mark.parametrize("source", ["pixels", "random"])
@pytest.mark.parametrize("block", [1, 7, 33, 50, 75])
def test_blocks_do_not_matter(
    source: str, block: int, make_set: MakeSet, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, spec = make_set(), Features(source=source, net=NET)
    whole = build(spec, real)["features"]
    monkeypatch.setattr(features, "BLOCK", block)
    assert spec.length(real) == -(-50 // block)
    assert torch.allclose(build(spec, real)["features"], whole, atol=1e-5)


def test_large_activations_make_small_blocks(make_set: MakeSet, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    real, spec = make_set(), Features(source="random", net=NET)
    whole = build(spec, real)["features"]
    monkeypatch.setattr(features, "ROOM", 1)
    assert spec.length(real) == 50
    assert torch.allclose(build(spec, real)["features"], whole, atol=1e-5)


def test_steps_may_come_in_any_order_and_twice(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run that was stopped anywhere goes on with the same bits."""
    monkeypatch.setattr(features, "BLOCK", 8)
    real, spec, seeds = make_set(), Features(source="random", net=NET), Seeds(0)

    def after(steps: list[int]) -> torch.Tensor:
        state = spec.init(real, None, seeds.at("init"), {})
        for step in steps:
            spec.step(state, spec.draw(real, seeds.at("step", step), {}, step), _no_descent)
        return state["features"]

    forward = after(list(range(7)))
    assert torch.equal(after([6, 2, 2, 0, 5, 1, 4, 3]), forward)
    assert torch.equal(after([0, 1, 2])[:24], forward[:24])
    assert (after([0, 1, 2])[24:] == 0).all()


def test_trained_features_are_those_of_the_trained_network(make_set: MakeSet, build: Build) -> None:
    real = make_set()
    spec = Features(source="trained", net=BATCH_NET, epochs=3)
    (network,) = spec.needs()
    assert network == TrainedNetwork(net=BATCH_NET, epochs=3)
    params = build(network, real)
    made = build(spec, real, {"network": params})["features"]
    expected = net_of(BATCH_NET, real).features(params, real.draw(torch.arange(50)), train=False)
    assert torch.allclose(made, expected, atol=1e-5)


def test_settings_that_do_not_concern_the_source_do_not_change_it() -> None:
    assert Features() == Features(net="convnet:width=8", epochs=99)
    assert Features(source="random") == Features(source="random", epochs=99)
    assert Features(source="random") != Features(source="random", net=NET)
    assert Features(source="trained") != Features(source="trained", epochs=99)


def test_unknown_sources_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'trained'"):
        Features(source="train")


def test_needs_come_in_an_order_in_which_they_can_be_built() -> None:
    herding, kmeans = (kind(features="trained", net=NET) for kind in (Herding, KMeans))
    assert needed(herding, kmeans) == (TrainedNetwork(net=NET), Features(source="trained", net=NET))
    assert needed(Random(), Herding()) == (Features(),)


@pytest.mark.parametrize("spec", [Features(), Features(source="random", net=NET)])
def test_cost_and_width(spec: Features, make_set: MakeSet, build: Build) -> None:
    real = make_set()
    assert spec.width(real) == build(spec, real)["features"].shape[1]
    cost = spec.cost(real)
    assert cost.memory >= 4 * 50 * spec.width(real)
    assert (cost.flops_per_step > 0) is (spec.source == "random")


@pytest.mark.parametrize("method", [Random(), KMeans(), KCenter(), Herding(), Herding(features="random", net=NET)])
def test_a_whole_run_on_digits(method: Random, digits: Splits, tmp_path: Path) -> None:
    """The loop builds the features, then picks; the same command gives the same rows."""
    real, plan, res = digits.train, Plan(), {}
    for resource in needed(method):
        outcome = run(resource, real, [None], seed=0, plan=plan, res=res, folder=tmp_path / resource.name)
        res[resource.name] = resource.finish(outcome.states[0], res)
    once, again = (run(method, real, [Budget(ipc=3)], seed=0, plan=plan, res=res).states[0] for _ in range(2))
    rows = method.finish(once, res)
    assert len(rows) == 30
    assert rows.picked is not None
    assert real.labels[rows.picked].tolist() == list(range(10)) * 3
    assert all(torch.equal(once[k], again[k]) for k in once)


def _no_descent(*_: object, **__: object) -> State:
    raise AssertionError("features learn nothing")
