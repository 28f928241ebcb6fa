"""Images in pieces against all at once, and sums whose terms are differentiated one after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import cross_entropy

from attar.augment import siamese
from attar.execute import pieces
from attar.execute.compile import switched
from attar.execute.pieces import features, logits, piece_size, summed, weight_gradient
from attar.execute.plan import Plan, compiler_at_hand
from attar.match.unroll import unroll
from attar.nets.build import build
from attar.nets.fit import activation_bytes
from attar.seeds import Seeds


def whole(p, w: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted loss of all kept images at once, and its gradient, from the plain module."""
    loss = (cross_entropy(p.plain(p.kept), p.label, reduction="none") * w).sum()
    names, params = zip(*p.plain.named_parameters())
    return loss.detach(), dict(zip(names, torch.autograd.grad(loss, params)))


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_a_gradient_in_pieces_is_that_of_all(make_problem, size: int) -> None:
    p = make_problem(counts=(4, 3))
    w = torch.rand(7, dtype=torch.float64)
    loss, grads = weight_gradient(p.net, p.params, p.kept, p.label, w, size=size)
    expected, theirs = whole(p, w)
    assert torch.allclose(loss, expected, rtol=1e-12)
    assert grads.keys() == theirs.keys()
    for name, grad in grads.items():
        assert torch.allclose(grad, theirs[name], rtol=1e-9, atol=1e-14), name


def test_only_the_named_weights_and_soft_labels(make_problem) -> None:
    p = make_problem(counts=(4, 3))
    w, soft = torch.ones(7, dtype=torch.float64), torch.nn.functional.one_hot(p.label, 2).double()
    _, grads = weight_gradient(p.net, p.params, p.kept, soft, w, names=["classifier.weight"], size=3)
    assert list(grads) == ["classifier.weight"]
    assert torch.allclose(grads["classifier.weight"], whole(p, w)[1]["classifier.weight"], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(not compiler_at_hand(), reason="compiling on the CPU needs a C++ compiler")
def test_compiled_pieces_fill_the_last_with_images_of_no_weight(make_problem) -> None:
    p = make_problem(counts=(4, 3))
    w = torch.rand(7, dtype=torch.float64)
    with switched(True):
        _, grads = weight_gradient(p.net, p.params, p.kept, p.label, w, size=4)
    for name, grad in whole(p, w)[1].items():
        assert torch.allclose(grads[name], grad, rtol=1e-8, atol=1e-12), name


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradients_at_once_are_those_by_tape(make_problem, temperature: float) -> None:
    p = make_problem(counts=(4, 3))
    weights = {n: p.params[n] for n in p.net.trainable if n != "classifier.bias"}
    others = {n: v for n, v in p.params.items() if n not in weights}
    part = (p.kept, p.label, torch.rand(7, dtype=torch.float64))
    loss, grads = pieces._at_once(p.net, True, False, temperature, weights, others, *part)
    expected, theirs = pieces._by_tape(p.net, True, False, temperature, weights, others, *part)
    assert torch.allclose(loss, expected, rtol=1e-12) and len(grads) == len(weights)
    assert not any(g.requires_grad for g in grads)
    for a, b in zip(grads, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-14)


@pytest.mark.slow
@pytest.mark.skipif(not compiler_at_hand(), reason="compiling on the CPU needs a C++ compiler")
def test_compiled_in_half_precision_gradients_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only there; they point where those by tape do."""
    net = build("convnet:width=16:depth=2", channels=3, size=(12, 12), classes=3)
    params, g = net.init(Seeds(1)), torch.Generator().manual_seed(2)
    x, y, w = torch.randn(9, 3, 12, 12, generator=g), torch.arange(9) % 3, torch.full((9,), 1 / 9)
    made: list[str] = []

    def noted(name: str) -> Callable:
        fn = getattr(pieces, name)
        return lambda *args: made.append(name) or fn(*args)

    for name in ("_at_once", "_by_tape"):
        monkeypatch.setattr(pieces, name, noted(name))
    found = []
    for how in (Plan(), Plan(dtype="bfloat16"), Plan(dtype="bfloat16", compiled=True)):
        with how.applied():
            grads = weight_gradient(net, params, x, y, w)[1]
        found.append(torch.cat([grads[n].flatten() for n in params]))
    assert made == ["_by_tape", "_by_tape", "_at_once"]
    for half in found[1:]:
        assert float(torch.nn.functional.cosine_similarity(half, found[0], dim=0)) > 0.99


@pytest.mark.slow
@pytest.mark.skipif(not compiler_at_hand(), reason="compiling on the CPU needs a C++ compiler")
@pytest.mark.parametrize("of", ["statistics", "gradient through steps"])
def test_compiled_batch_norms_see_no_images_of_no_weight(make_problem, of: str) -> None:
    """Of batches of 5 the second holds 2: zeros in the place of the other 3 would move statistics and gradients."""
    p = make_problem(norm="batch", counts=(4, 3))
    steps = torch.arange(7).split(5)

    def found() -> list[torch.Tensor]:
        if of == "statistics":
            params = {name: v.clone() for name, v in p.params.items()}
            x, y = p.kept[steps[1]], p.label[steps[1]]
            grads = weight_gradient(p.net, params, x, y, torch.ones(2, dtype=torch.float64), size=5)[1]
            return [*grads.values(), *(v for name, v in params.items() if "running" in name)]
        image = p.kept.clone().requires_grad_()
        end = unroll(p.net, p.params, image, p.label, torch.tensor(0.1, dtype=torch.float64), index=steps)
        return [torch.autograd.grad(sum(v.square().sum() for v in end.values()), image)[0]]

    eager = found()
    with switched(True):
        compiled = found()
    for a, b in zip(eager, compiled, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_forwards_in_pieces(make_problem, monkeypatch: pytest.MonkeyPatch) -> None:
    p = make_problem(counts=(4, 3))
    monkeypatch.setattr(pieces, "FORWARD", 3)
    assert torch.allclose(features(p.net, p.params, p.kept), p.plain.features(p.kept), rtol=1e-12)
    assert torch.allclose(logits(p.net, p.params, p.kept), p.plain(p.kept), rtol=1e-12)


def test_pieces_are_equal_and_batch_norms_see_all(make_problem, monkeypatch: pytest.MonkeyPatch) -> None:
    net = make_problem().net
    for threads, sizes in ((1, [1, 10, 24, 13, 20, 24]), (2, [1, 10, 24, 25, 34, 43])):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert [piece_size(net, n, "cpu", most=24) for n in (1, 10, 24, 25, 100, 256)] == sizes
    assert piece_size(net, 100, "cuda", most=24) == 100
    room = pieces.ROOM // activation_bytes(net)
    assert piece_size(net, room, "cuda", most=24) == room and piece_size(net, room + 1, "cuda", most=24) <= room / 2 + 1
    coupled = make_problem(norm="batch").net
    assert [piece_size(coupled, 100, "cpu", most=24, train=mode) for mode in (True, False)] == [100, 34]


def test_a_sum_of_terms_has_the_slope_of_the_sum() -> None:
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    alive: list[int] = []

    def terms():
        for k in range(3):
            alive.append(k)
            yield lambda x, k=k: (x[k:] ** (k + 2)).sum()

    total = summed(x, terms())
    expected = sum((x[k:] ** (k + 2)).sum() for k in range(3))
    assert torch.allclose(total, expected, rtol=1e-12) and alive == [0, 1, 2]
    assert torch.allclose(*(torch.autograd.grad(2 * v, x)[0] for v in (total, expected)), rtol=1e-12)
    with torch.no_grad():
        assert torch.allclose(summed(x, terms()), expected, rtol=1e-12)
    with pytest.raises(RuntimeError, match="does not require grad"):
        (slope,) = torch.autograd.grad(summed(x, terms()), x, create_graph=True)
        slope.sum().backward()


def test_blocks_by_class_are_transformed_as_their_images_are() -> None:
    g = torch.Generator().manual_seed(3)
    x = torch.rand(40, 5, 3, 9, 9, generator=g)
    params = siamese.draw("color_crop_cutout_flip_scale_rotate", 40, g, size=(9, 9), one_op=False)
    assert len(params["op"].unique()) == 6
    rows = {name: v.repeat_interleave(5, 0) for name, v in params.items()}
    expected = siamese.augment(x.flatten(0, 1), rows).unflatten(0, (40, 5))
    assert torch.equal(siamese.augment_by_class(x, params), expected)
    none = siamese.draw("none", 40, g, size=(9, 9), one_op=False)
    assert torch.equal(siamese.augment_by_class(x, none), x)
