"""IDM's loss and gradient against one class at a time, its ring of networks against a list, its rate against class steps."""

from __future__ import annotations

import copy

import pytest
import torch
from plain_matching import PlainConvNet, of_class, slopes, transformed
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment
from attar.budget import Budget
from attar.distill.idm import IDM, entry
from attar.errors import UsageError
from attar.run import Descent
from attar.seeds import Seeds
from attar.testing.toys import toy


def plain_loss(p, image: torch.Tensor, *, weight: float, percent: float) -> torch.Tensor:
    """The official sum over classes: squared distance of mean features, and cross entropy weighted by the accuracy."""
    total = torch.zeros((), dtype=image.dtype)
    for k, real in enumerate(p.real):
        r, s = (transformed(x, of_class(p.ops, k, len(x))) for x in (real, image[p.label == k]))
        total = total + ((p.plain.features(r).mean(0).detach() - p.plain.features(s).mean(0)) ** 2).sum()
        said = p.plain(s)
        if len(image) > len(p.real) or int(said.argmax()) != k:  # one image per class: the wrongly recognised alone
            total = total + weight * percent * cross_entropy(said, torch.full((len(s),), k))
    return total


def loss_of(p, image: torch.Tensor, *, ce: float | None, accuracy: float, **more: torch.Tensor) -> torch.Tensor:
    """With the problem's network at place 2 of a ring of three, beside two others.

    Args:
        more: of the state.
    """
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    real = augment(p.real.flatten(0, 1), p.rows(p.ops, label)).unflatten(0, p.real.shape[:2])
    ring = {f"queue.{name}": torch.stack([v * 0, v - 1, v]) for name, v in p.params.items()}
    state = {"image": image, "label": p.label, **ring, "accuracy": torch.tensor([0.9, 0.1, accuracy])}
    batch = {"real": real, "augment": p.ops, "matched": torch.tensor(2)}
    return IDM(net=p.spec, ce=ce).loss({**state, **more}, batch)


@pytest.mark.parametrize("ce, accuracy", [(0.5, 0.25), (0.1, 0.0), (3.0, 1.0)])
@pytest.mark.parametrize("counts, norm", [((2, 3, 1), "instance"), ((1, 1), "batch")])
def test_loss_and_gradient_equal_plain_loops(make_problem, counts, norm: str, ce: float, accuracy: float) -> None:
    p = make_problem(counts=counts, norm=norm)
    p.plain.eval()
    ours, theirs = p.kept.clone().requires_grad_(), p.kept.clone().requires_grad_()
    loss = loss_of(p, ours, ce=ce, accuracy=accuracy)
    plain = plain_loss(p, theirs, weight=ce, percent=100 * accuracy)
    assert torch.allclose(loss, plain, rtol=1e-7)
    loss.backward()
    plain.backward()
    assert ours.grad.norm() > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)  # the accuracy is float32


def test_an_image_that_stands_alone_for_its_class_has_no_cross_entropy_where_it_is_recognised(make_problem) -> None:
    """Against the same images as two of each class, where all of them have one."""
    problems = (make_problem(counts=(1, 1), seed=seed) for seed in range(50))
    p = next(p for p in problems if len({bool(r) for r in p.plain(kept_of(p)).argmax(1) == p.label}) == 2)
    said = p.plain(kept_of(p)).detach()
    wrong = float(cross_entropy(said, p.label, reduction="none")[said.argmax(1) != p.label].sum())
    alone = loss_of(p, p.kept, ce=0.5, accuracy=0.25) - loss_of(p, p.kept, ce=0.5, accuracy=0.0)
    assert float(alone) == pytest.approx(0.5 * 25 * wrong, rel=1e-6)
    two = {"label": p.label.repeat_interleave(2)}
    image = p.kept.repeat_interleave(2, 0)
    beside = loss_of(p, image, ce=0.5, accuracy=0.25, **two) - loss_of(p, image, ce=0.5, accuracy=0.0, **two)
    assert float(beside) == pytest.approx(0.5 * 25 * float(cross_entropy(said, p.label, reduction="sum")), rel=1e-6)


def kept_of(p) -> torch.Tensor:
    """The kept images as the network sees them."""
    return torch.cat([transformed(p.kept[k : k + 1], of_class(p.ops, k, 1)) for k in range(p.classes)])


@pytest.mark.parametrize(("asked", "weight"), [(49, 0.5), (50, 0.1), (51, 0.1)])
def test_the_weight_of_the_cross_entropy_is_by_images_per_class(make_problem, asked: int, weight: float) -> None:
    """Of those that the budget asked for, where more are decoded."""
    p = make_problem()
    label = torch.arange(p.classes).repeat_interleave(asked)
    found = loss_of(p, p.kept, ce=None, accuracy=0.5, asked=label)
    assert torch.equal(found, loss_of(p, p.kept, ce=weight, accuracy=0.5))


def test_gradient_by_finite_differences(make_problem) -> None:
    p = make_problem(act="swish")
    image = p.kept.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss_of(p, image, ce=0.5, accuracy=0.5), image)
    where, found = slopes(lambda x: loss_of(p, x, ce=0.5, accuracy=0.5), p.kept, places=60)
    assert found.abs().max() > 1e-2
    assert torch.allclose(grad.flatten()[where], found, rtol=1e-6, atol=1e-7)


class Listed:
    """The queue as a list: fresh networks at its end, the oldest at its head goes; torch's own SGD for each."""

    def __init__(self, plain: PlainConvNet, method: IDM) -> None:
        self.plain, self.method, self.queue = plain, method, []

    def push(self, params: dict[str, torch.Tensor]) -> None:
        net = copy.deepcopy(self.plain)
        net.load_state_dict(params)
        sgd = torch.optim.SGD(net.parameters(), lr=self.method.lr_net, momentum=0.9, weight_decay=5e-4)
        self.queue.append({"net": net, "sgd": sgd, "accuracy": 0.0})
        if len(self.queue) > self.method.queue:
            self.queue.pop(0)

    def teach(self, who: int, lessons: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        one = self.queue[who]
        one["net"].train()
        for x, y in lessons:
            one["sgd"].zero_grad()
            cross_entropy(one["net"](x), y).backward()
            one["sgd"].step()
        one["net"].eval()
        one["accuracy"] = float((one["net"](x).argmax(1) == y).float().mean())


def doubled(tree):
    if isinstance(tree, dict):
        return {k: doubled(v) for k, v in tree.items()}
    return tree.double() if isinstance(tree, torch.Tensor) and tree.is_floating_point() else tree


@pytest.mark.parametrize("norm, teach, size", [("instance", "real", 6), ("batch", "real", 3), ("instance", "kept", 5)])
def test_the_ring_is_the_queue(norm: str, teach: str, size: int) -> None:
    real = toy((9, 7, 8), channels=3)
    spec = f"convnet:width=4:depth=1:norm={norm}"
    method = IDM(net=spec, batch=3, batch_net=5, queue=size, renew=2, trained=2, lessons=3, lr_net=0.1, teach=teach)
    state = doubled(method.init(real, Budget(ipc=2), Seeds(4).at("init"), {}))
    plain = PlainConvNet(3, real.shape[1], 3, width=4, depth=1, norm=norm).double()
    listed = Listed(plain, method)
    for i in range(4):
        listed.push(entry(state, i % size))
    pushed, descent = 4, Descent(method, 11, losses=[[]])
    for step in range(11):
        batch = doubled(method.draw(real, Seeds(4).at("step", step), {}, step))
        assert bool(batch["fresh"]) == (step in (2, 4, 6, 8, 10))
        if batch["fresh"]:
            listed.push(batch["fresh"])
            assert batch["place"] == pushed % size
            pushed += 1
        assert 0 <= int(batch["matched"]) < len(listed.queue)
        assert len(set(batch["learners"])) == 2 and int(batch["matched"]) not in batch["learners"]
        before = {k: v.clone() for k, v in state.items()}
        state = method.step(state, batch, descent)
        slope = gradient(method, {**before, **fresh_rows(batch, before)}, batch)
        assert torch.allclose(state["image"], before["image"] - method.lr_img * slope, rtol=1e-10)
        for turn, place in enumerate(batch["learners"]):
            lessons = [method._batch(state["image"], state["label"], batch, turn, i) for i in range(3)]
            assert all(y.shape == (5,) and y.min() >= 0 for _, y in lessons)
            listed.teach(age(place, pushed, size), lessons)
        for i, one in enumerate(listed.queue):
            place = (pushed - len(listed.queue) + i) % size
            ours = entry(state, place)
            for name, value in one["net"].state_dict().items():
                if "num_batches" not in name:
                    assert torch.allclose(ours[name], value, rtol=1e-9, atol=1e-12), (step, name)
            assert float(state["accuracy"][place]) == pytest.approx(one["accuracy"], abs=1e-6)
    assert len({one["accuracy"] for one in listed.queue}) > 1


def age(place: int, pushed: int, size: int) -> int:
    """Where in a list, oldest first, the network stands that is at ``place`` of the ring."""
    present = min(pushed, size)
    return next(i for i in range(present) if (pushed - present + i) % size == place)


def fresh_rows(batch: dict, before: dict) -> dict[str, torch.Tensor]:
    """The ring with the fresh network written in."""
    rows = {}
    for name, value in batch["fresh"].items():
        rows[f"queue.{name}"] = before[f"queue.{name}"].clone()
        rows[f"queue.{name}"][batch["place"]] = value
    if rows:
        rows["accuracy"] = before["accuracy"].clone()
        rows["accuracy"][batch["place"]] = 0
    return rows


def gradient(method: IDM, state: dict, batch: dict) -> torch.Tensor:
    image = state["image"].clone().requires_grad_()
    return torch.autograd.grad(method.loss({**state, "image": image}, batch), image)[0]


def test_one_step_at_twice_the_rate_is_a_round_of_class_steps_with_momentum() -> None:
    """Gradients that hardly change: K steps of SGD with momentum 1/2, each with one class's gradient, add up to 2 lr g."""
    g = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # a row a class
    image = torch.zeros_like(g, requires_grad=True)
    sgd, rounds = torch.optim.SGD([image], lr=0.2, momentum=0.5), 50
    for _ in range(rounds):
        for k in range(len(g)):
            image.grad = torch.zeros_like(g)
            image.grad[k] = g[k]
            sgd.step()
    assert torch.allclose(image.detach() / rounds, -IDM().lr_img * g, rtol=0.02)


def test_a_network_alone_in_the_queue_is_matched_and_trained() -> None:
    method, real = IDM(net="convnet:width=4:depth=1", queue=1, batch=2, batch_net=3, lessons=1), toy((3, 3))
    batch = method.draw(real, Seeds(0).at("step", 30), {}, 30)
    assert (int(batch["matched"]), batch["learners"], batch["place"]) == (0, [0], 0)
    state = method.init(real, Budget(ipc=1), Seeds(0), {})
    assert state["queue.classifier.weight"].shape[0] == 1 and state["queue.classifier.weight"].any()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="teach 'both' is unknown; use real or kept"):
        IDM(teach="both")
    with pytest.raises(UsageError, match="queue=0 must be a whole number"):
        IDM(queue=0)
