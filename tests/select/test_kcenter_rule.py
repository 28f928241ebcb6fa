"""Farthest first against a full distance matrix and against the best cover of all subsets."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.execute.pairs import to_point
from attar.select.kcenter import central, farthest_first


def by_matrix(x: np.ndarray, k: int, first: int) -> tuple[list[int], list[float]]:
    """Farthest first on the full matrix of distances, in float64."""
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    picks, gains = [first], [float(d[first].max())]
    for _ in range(k - 1):
        left = [i for i in range(len(x)) if i not in picks]
        near = [float(d[i, picks].min()) for i in left]
        picks.append(left[int(np.argmax(near))])
        gains.append(max(near))
    return picks, gains


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "width"), [(12, 2), (40, 3), (40, 64)])
def test_every_pick_is_the_farthest(n: int, width: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(n, width))
    picks, gains = by_matrix(x, n, first=seed)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        ours, our_gains = farthest_first(torch.from_numpy(x).to(dtype), n, seed)
        assert ours.tolist() == picks
        assert np.allclose(our_gains, gains, atol=tolerance)


@settings(deadline=None, max_examples=60)
@given(
    points=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12),
    first=st.integers(0, 11),
)
def test_ties_twins_and_the_same_radius(points: list[tuple[int, int]], first: int) -> None:
    """Whole numbers: ties are exact, and go to the lower place; no twin comes before the radius is 0."""
    x = np.array(points, dtype=np.float64)
    first %= len(x)
    picks, gains = farthest_first(torch.from_numpy(x), len(x), first)
    expected, radii = by_matrix(x, len(x), first)
    assert picks.tolist() == expected
    assert np.allclose(gains, radii)
    distinct = len({*points})
    assert len({points[i] for i in picks[:distinct].tolist()}) == distinct
    assert all(g == 0 for g in gains[distinct:]) or distinct == 1


@pytest.mark.parametrize("seed", range(10))
def test_the_radius_is_at_most_twice_the_best(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(11, 2))
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    for k in (1, 2, 3, 4):
        best = min(d[list(s)].min(0).max() for s in itertools.combinations(range(11), k))
        picks, _ = farthest_first(torch.from_numpy(x), k, central(torch.from_numpy(x)))
        assert d[picks.tolist()].min(0).max() <= 2 * best + 1e-12


def test_gains_never_grow_and_a_smaller_budget_is_a_prefix() -> None:
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(50, 5)))
    picks, gains = farthest_first(x, 40, 0)
    assert (gains.diff() <= 0).all()
    part, part_gains = farthest_first(x, 9, 0)
    assert part.tolist() == picks[:9].tolist()
    assert torch.equal(part_gains, gains[:9])


def test_large_norms_cost_no_digits_and_twins_are_at_distance_zero() -> None:
    """Norms less a product would lose two digits here in float32."""
    x = torch.from_numpy(1000 + np.random.default_rng(0).normal(size=(40, 64))).float()
    x[20:] = x[:20]
    for i in range(20):
        found = to_point(x, x[i])
        assert found[i] == found[i + 20] == 0
        assert torch.allclose(found.double(), (x.double() - x[i].double()).square().sum(1).sqrt(), rtol=1e-6)
    assert {i % 20 for i in farthest_first(x, 20, 0)[0].tolist()} == set(range(20))


def test_the_centre_is_the_point_nearest_to_the_mean() -> None:
    assert central(torch.tensor([[0.0], [4.0], [5.0], [6.0], [10.0]])) == 2
    assert central(torch.zeros(4, 2)) == 0


MEMORY = """
import resource, torch
from attar.select.kcenter import farthest_first
from attar.select.herding import herd
torch.set_num_threads(1)
x = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0))
herd(x, 2), farthest_first(x, 2, 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
herd(x, 300), farthest_first(x, 300, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
def test_memory_does_not_grow_with_the_number_of_picks() -> None:
    """300 picks of 200,000 points: a matrix of distances would take 240 MB; one number a point takes 0.8."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40_000
