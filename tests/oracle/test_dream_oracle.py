"""DREAM: representatives against plain k-means, the loss against loops over classes, and when clusters are renewed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from plain_matching import of_class, slopes
from torch.nn.functional import cross_entropy

from attar.augment import idc
from attar.budget import Budget
from attar.distill.dream import DREAM
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.match.gradients import slots
from attar.match.representatives import lloyd, representatives
from attar.nets.fit import net_of, prefixed, unprefixed
from attar.params.tiles import encode
from attar.run import Descent, run
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import method_of

SMALL = method_of(DREAM)
MEAN, STD = (torch.full((3, 1, 1), v, dtype=torch.float64) for v in (0.4, 0.3))


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_representatives(x: torch.Tensor, k: int) -> list[int]:
    """Lloyd by loops from the same first centres, then the nearest example to each centre that no earlier centre took."""
    centres = [x[i].clone() for i in torch.randperm(len(x), generator=chance())[:k].tolist()]
    while True:
        near = [min(range(k), key=lambda j: (float(((v - centres[j]) ** 2).sum()), j)) for v in x]
        groups = [[x[i] for i in range(len(x)) if near[i] == j] for j in range(k)]
        moved = [sum(g) / len(g) if g else c for g, c in zip(groups, centres)]
        if all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(moved, centres)):
            break
        centres = moved
    taken: list[int] = []
    for c in centres:
        left = [i for i in range(len(x)) if i not in taken]
        taken.append(min(left, key=lambda i: (float(((x[i] - c) ** 2).sum()), i)))
    return taken


@pytest.mark.parametrize("k", [1, 3, 7, 19])
def test_representatives_are_those_of_plain_k_means(k: int) -> None:
    x = torch.randn(20, 3, generator=chance(5)).double()
    assert representatives(x, k, chance()).tolist() == plain_representatives(x, k)


def test_separate_groups_have_one_representative_each_near_their_middle() -> None:
    middle = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    x = torch.cat([m + torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) for m in middle])
    found = [sorted(representatives(x, 3, chance(s)).tolist()) for s in range(20)]
    assert [0, 5, 10] in found


def test_twins_zeros_and_few_examples() -> None:
    """Equal rows give distinct examples; with fewer examples than clusters each comes in turn."""
    assert sorted(representatives(torch.zeros(6, 2), 4, chance()).tolist()) == [0, 1, 2, 3]
    assert torch.isfinite(lloyd(torch.zeros(6, 2), 4, chance())).all()
    assert sorted(representatives(torch.ones(5, 2), 5, chance()).tolist()) == [0, 1, 2, 3, 4]
    assert representatives(torch.randn(3, 2), 7, chance()).tolist() == [0, 1, 2, 0, 1, 2, 0]


def step_of(make_problem, metric: str):
    """A method, a state and a batch in float64; the representatives are random 8-bit pixels."""
    p = make_problem(norm="instance")
    ops = idc.draw_by_class("color_crop_cutout_rotate", p.classes, chance(3), size=p.kept.shape[2:])
    ops = {n: v.double() if v.is_floating_point() else v for n, v in ops.items()}
    table = slots(p.label, p.classes)
    used = (table["share"] > 0).double()
    picked = torch.randint(256, p.real.shape, generator=chance(7), dtype=torch.uint8)
    state = {"image": p.kept.sigmoid(), "label": p.label, "mean": MEAN, "std": STD, "picked": picked}
    state |= {"slot": table["slot"], "share": used / used.sum(1, keepdim=True), **prefixed(p.params)}
    return p, DREAM(net=p.spec, metric=metric), state, {"augment": ops}


@pytest.mark.parametrize("metric", ["mse", "l1"])
def test_loss_and_gradient_are_those_of_loops_over_classes(make_problem, metric: str) -> None:
    p, method, state, batch = step_of(make_problem, metric)
    distance = {"mse": lambda a, b: ((a - b) ** 2).sum(), "l1": lambda a, b: (a - b).abs().sum()}[metric]
    weights = [w for w in p.plain.parameters() if w.ndim == 4]

    def plain(image: torch.Tensor) -> torch.Tensor:
        terms = []
        for k in range(p.classes):
            sides = []
            for pixels in (state["picked"][k].double() / 255, image[p.label == k]):
                x = idc.augment((pixels - MEAN) / STD, of_class(batch["augment"], k, len(pixels)))
                loss = cross_entropy(p.plain(x), torch.full((len(x),), k))
                sides.append(torch.autograd.grad(loss, weights, create_graph=True))
            terms += [distance(b, a.detach()) for a, b in zip(*sides)]
        return torch.stack(terms).sum()

    results = []
    for fn in (lambda x: method.loss({**state, "image": x}, batch), plain):
        leaf = state["image"].clone().requires_grad_()
        loss = fn(leaf)
        results.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    for a, b in zip(*results):
        assert b.abs().max() > 1e-6 and float((a - b).abs().max() / b.abs().max()) < 1e-8
    if metric == "mse":
        where, found = slopes(lambda x: method.loss({**state, "image": x}, batch).detach(), state["image"], places=15)
        assert torch.allclose(results[0][1].flatten()[where], found, rtol=1e-4, atol=1e-7)


def test_clusters_are_renewed_every_interval_by_the_network_of_the_moment() -> None:
    """Steps 0, 2, 4 of 5 and again with the next network; what is picked is what k-means of its features says."""
    real = toy((14, 3, 9))
    method = dataclasses.replace(SMALL, outer=5, interval=2, lr_net=0.1)
    state = method.init(real, Budget(ipc=2), Seeds(0).at("init"), {})
    net = net_of(method.net, real)
    for name, opt in method.learned(state).items():
        state |= opt.slots(name, state[name])
    for step in range(7):
        seeds = Seeds(0).at("step", step)
        before = {k: v.clone() for k, v in state.items()}
        batch = method.draw(real, seeds, {}, step)
        assert ("pool" in batch) == (step in (0, 2, 4, 5))
        state = method.step(state, batch, Descent(method, 7, done=step, losses=[[]]))
        if "pool" not in batch:
            assert torch.equal(state["picked"], before["picked"])
            continue
        params = batch["net"] if step % 5 == 0 else unprefixed(before)
        for k, members in enumerate(real.classes):
            f = net.features(params, real.draw(members))
            places = representatives(f, method.batch, seeds.generator("clusters", str(k)))
            assert torch.equal(state["picked"][k], real.raw(members[places]))
    assert not torch.equal(unprefixed(state)["classifier.weight"], batch["net"]["classifier.weight"])


def test_first_images_stand_for_clusters() -> None:
    """With factor 1 each is a real image of its class, none twice; with factor 2 tiles of representatives."""
    real = toy((12, 12))
    state = SMALL.init(real, Budget(ipc=4), Seeds(0).at("init"), {})
    net = net_of(SMALL.net, real)
    seeds = Seeds(0).at("init")
    params = net.init(seeds.at("start"))
    for factor in (1, 2):
        task = dataclasses.replace(SMALL, factor=factor)
        state = task.init(real, Budget(ipc=2), seeds, {})
        for k, members in enumerate(real.classes):
            f = net.features(params, real.draw(members))
            places = representatives(f, 2 * factor**2, seeds.generator("start", k))
            assert len(set(places.tolist())) == 2 * factor**2
            wanted = real.pixels(encode(real.draw(members[places]), factor)).clamp(0, 1)
            assert torch.allclose(state["image"][state["label"] == k], wanted)


def test_a_pool_bounds_what_is_clustered() -> None:
    real = toy((14, 3, 9))
    batch = dataclasses.replace(SMALL, pool=5).draw(real, Seeds(0), {}, 0)
    assert [len(v) for v in batch["pool"].values()] == [5, 3, 5]
    assert [len(v) for v in SMALL.draw(real, Seeds(0), {}, 0)["pool"].values()] == [14, 3, 9]


def test_representatives_are_in_the_state_so_that_a_run_goes_on_with_them() -> None:
    """A run cut between two clusterings must not match other images than the whole one."""
    real = toy()
    state = run(SMALL, real, [Budget(ipc=2)], seed=0, plan=Plan()).states[0]
    assert state["picked"].dtype == torch.uint8 and state["picked"].shape == (3, SMALL.batch, *real.shape)
    rows = {tuple(v.flatten().tolist()) for v in real.raw(torch.arange(len(real)))}
    assert all(tuple(v.flatten().tolist()) in rows for v in state["picked"].flatten(0, 1))


def test_impossible_settings_are_refused() -> None:
    for how in ({"interval": 0}, {"batch": 0}, {"pool": 0}, {"factor": 0}, {"outer": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(how))}=0"):
            DREAM(**how)
    with pytest.raises(UsageError, match="start 'cluster' is unknown"):
        DREAM(start="cluster")
