"""Pairwise reductions in tiles against plain float64 loops: every tile size, ties, twins, zero vectors, k = n."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from attar.errors import UsageError
from attar.execute import pairs, plan
from attar.execute.compile import switched
from attar.execute.plan import Plan
from attar.execute.products import product

METRICS = ("euclidean", "manhattan", "cosine")


def plain(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    """One distance from its definition."""
    if metric == "manhattan":
        return sum(abs(p - q) for p, q in zip(a, b))
    if metric == "euclidean":
        return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b)))
    na, nb = math.sqrt(sum(a * a)), math.sqrt(sum(b * b))
    if na == 0 or nb == 0:
        return 0.0 if na == nb else 0.5
    return 1 - sum(a * b) / (na * nb)


def sets(kind: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "normal":
        return rng.normal(size=(12, 3)), rng.normal(size=(15, 3))
    if metric == "cosine":  # along the axes, where normalising is exact
        x = np.eye(2)[rng.integers(0, 2, 12)] * rng.integers(-1, 2, size=(12, 1)) * 2.0
        return x, np.concatenate([x, x[:3]])
    x = rng.integers(-1, 2, size=(12, 2)).astype(float)  # many ties, twins and zeros
    return x, np.concatenate([x, x[:3]])


def close(d: np.ndarray, e: np.ndarray) -> bool:
    return np.allclose(d, e, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["normal", "ties"])
@pytest.mark.parametrize("block", [1, 4, 8, 10, 15, 100])  # 10 is 1.5 blocks of the larger set
def test_reductions_equal_loops(metric: str, kind: str, block: int) -> None:
    x, y = sets(kind, metric)
    d = np.array([[plain(a, b, metric) for b in y] for a in x])
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    own = torch.arange(12)
    for k in (1, 3, 14, 15, 17):
        places, near = pairs.closest(tx, ty, k, metric=metric, own=own, block=block)
        for i in range(12):
            kept = sorted((round(d[i, j], 9), j) for j in range(15) if j != i)[:k]
            assert places[i].tolist() == [j for _, j in kept] + [-1] * (k - len(kept))
            assert np.allclose(near[i, : len(kept)], [v for v, _ in kept], atol=1e-8)
            assert near[i, len(kept) :].isinf().all()
    place, least = pairs.lowest(tx, ty, metric=metric, block=block)
    assert place.tolist() == d.round(9).argmin(1).tolist()
    assert close(least.numpy(), d.min(1))
    before = pairs.earlier(tx, metric=metric, block=block)
    e = [[plain(a, b, metric) for b in x] for a in x]
    assert math.isinf(before[0])
    assert close(before[1:].numpy(), np.array([min(e[j][:j]) for j in range(1, 12)]))


def test_twins_are_at_zero_whatever_their_length() -> None:
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) + 1000
    for metric in METRICS:
        assert (pairs.distances(x, x.clone(), metric=metric).diagonal() == 0).all()


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'cosine'"):
        list(pairs.tiles(torch.zeros(1, 1), torch.zeros(1, 1), metric="cosin"))


def crowd(kind: str) -> torch.Tensor:
    """300 points: scattered, twins of one another, all at one place, whole numbers full of ties, or far from the origin."""
    rng = np.random.default_rng(3)
    x = {
        "scattered": rng.normal(size=(300, 8)),
        "twins": np.repeat(rng.normal(size=(6, 8)), 50, axis=0),
        "one place": np.ones((300, 8)),
        "ties": rng.integers(-1, 2, size=(300, 4)),
        "far": 1000 + rng.normal(size=(300, 8)),
        "zeros": rng.normal(size=(300, 8)) * (rng.uniform(size=(300, 1)) < 0.5),
    }[kind]
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", ["scattered", "twins", "one place", "ties", "far", "zeros"])
@pytest.mark.parametrize("block", [16, 64, 200, 1024])  # 300 are 1.5 blocks of 200, and five times four of 16
def test_the_search_by_candidates_is_the_full_search(metric: str, kind: str, block: int) -> None:
    x = crowd(kind)
    for some, own in ((slice(0, 300), torch.arange(300)), (slice(10, 47), None)):
        for k in (1, 7):
            fast = pairs.closest(x[some], x, k, metric=metric, own=own, block=block)
            full = pairs.searched(x[some], x, k, metric=metric, own=own, block=block)
            assert torch.equal(fast[0], full[0])
            assert torch.equal(fast[1], full[1])
        place, near = pairs.lowest(x[some], x, metric=metric, block=block)
        full = pairs.searched(x[some], x, 1, metric=metric, block=block)
        assert torch.equal(place, full[0][:, 0]) and torch.equal(near, full[1][:, 0])


def test_candidates_suffice_where_points_are_scattered_and_are_not_trusted_where_they_coincide() -> None:
    for kind, share in (("scattered", 1.0), ("one place", 0.0)):
        x = crowd(kind)
        found = pairs._candidates(x, x, pairs.wide(5), torch.arange(300), 128)
        sure = pairs._filtered(x, x, *found, 5, "euclidean")[2]
        assert float(sure.float().mean()) == share


def test_half_precision_of_networks_hides_no_neighbour() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 32, generator=g).repeat_interleave(100, 0) + 0.01 * torch.randn(600, 32, generator=g)
    plain = pairs.closest(x, x, 3)
    with Plan(dtype="bfloat16").applied():
        half = pairs.closest(x, x, 3)
    assert all(torch.equal(p, q) for p, q in zip(plain, half))


@pytest.mark.slow
@pytest.mark.skipif(not plan.compiler_at_hand(), reason="compiling on the CPU needs a C++ compiler")
def test_compiled_distances_to_a_point_agree_and_twins_are_at_zero() -> None:
    for n in (40, 70):
        x = torch.randn(n, 33, generator=torch.Generator().manual_seed(n)) + 1000
        x[20:40] = x[:20]
        with switched(True):
            found = pairs.to_point(x, x[3])
        assert torch.allclose(found, pairs.to_point(x, x[3]), rtol=1e-5)
        assert found[3] == found[23] == 0


LESS = """
import torch
from attar.execute import pairs
x = torch.randn(6, 32).repeat_interleave(100, 0) + 0.01 * torch.randn(600, 32)
plain = pairs.searched(x, x, 3)
{set}
found = pairs.closest(x, x, 3)
assert all(torch.equal(p, q) for p, q in zip(plain, found))
"""


@pytest.mark.parametrize(
    "set_", ["torch.set_float32_matmul_precision('medium')", "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'"]
)
def test_products_in_less_than_float32_find_no_candidates(set_: str) -> None:
    """Whichever of torch's two interfaces allows them."""
    subprocess.run([sys.executable, "-c", LESS.format(set=set_)], check=True)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (300, 500, 129), (1000, 1, 20000), (0, 5, 3)])
def test_a_product_is_one(shape: tuple[int, int, int]) -> None:
    a, b, width = shape
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(a, width, generator=g), torch.randn(b, width, generator=g)
    assert torch.allclose(product(x, y).double(), x.double() @ y.double().T, atol=1e-4 * width**0.5)
    assert product(x, y).shape == (a, b)
