"""k-means prototypes: the search for examples against brute force, the clusters against all partitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from attar.select.clusters import clusters, prototypes


def by_hand(x: np.ndarray, centres: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int]]:
    """(place, size) by falling size: the nearest unpicked point of each centre, large clusters first."""
    d = np.sqrt(((x[:, None] - centres[None]) ** 2).sum(-1))  # [n, k]
    taken: dict[int, int] = {}
    for j in sorted(range(len(centres)), key=lambda j: (-sizes[j], int(d[:, j].argmin()))):
        i = min((i for i in range(len(x)) if i not in taken), key=lambda i: (d[i, j], i))
        taken[i] = int(sizes[j])
    return sorted(taken.items(), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [1, 4, 15, 40])
def test_the_nearest_example_of_each_centre_once(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, sizes = rng.normal(size=(40, 3)), rng.integers(0, 6, size=k)
    centres = rng.normal(size=(k, 3)) * 0.7  # crowded: several centres want the same point
    picks = prototypes(torch.from_numpy(x), torch.from_numpy(centres), torch.from_numpy(sizes) + 1)
    assert list(zip(picks.places.tolist(), picks.weight.long().tolist())) == by_hand(x, centres, sizes + 1)


def test_blocks_of_centres_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, centres = torch.from_numpy(rng.normal(size=(60, 4))), torch.from_numpy(rng.normal(size=(20, 4)))
    sizes = torch.from_numpy(rng.integers(1, 9, size=20))
    whole = prototypes(x, centres, sizes)
    for block in (1, 7, 15, 20):
        monkeypatch.setattr("attar.execute.pairs.BLOCK", block)
        assert torch.equal(prototypes(x, centres, sizes).places, whole.places)


def test_blobs_give_their_medians_and_sizes() -> None:
    """Three far blobs on a line, of 5, 3 and 7 points about their middles."""
    middles, counts = [0.0, 100.0, 200.0], [5, 3, 7]
    x = np.concatenate([m + np.arange(c) - c // 2 for m, c in zip(middles, counts)])[:, None]
    picks = prototypes(torch.from_numpy(x), *clusters(torch.from_numpy(x), 3, seed=0))
    assert x[picks.places.numpy(), 0].tolist() == [200.0, 0.0, 100.0]
    assert picks.weight.tolist() == [7, 5, 3]
    assert picks.gain.tolist() == pytest.approx([7 / 15, 5 / 15, 3 / 15])


def test_clusters_reach_the_best_partition_of_a_small_set() -> None:
    """Over a few seeds, the sum of squares is that of the best of all partitions into two."""
    x = np.random.default_rng(1).normal(size=(10, 2))

    def spread(part: list[int]) -> float:
        return float(((x[part] - x[part].mean(0)) ** 2).sum())

    best = min(
        spread(list(s)) + spread([i for i in range(10) if i not in s])
        for r in range(1, 6)
        for s in itertools.combinations(range(10), r)
    )
    found = []
    for seed in range(10):
        centres, sizes = clusters(torch.from_numpy(x), 2, seed=seed)
        d = ((x[:, None] - centres.numpy()[None]) ** 2).sum(-1)
        assert np.bincount(d.argmin(1), minlength=2).tolist() == sizes.tolist()
        found.append(d.min(1).sum())
    assert min(found) == pytest.approx(best)


def test_the_weighted_mean_is_close_to_the_mean() -> None:
    x = np.random.default_rng(2).normal(size=(400, 3)) * [1, 2, 3]
    picks = prototypes(torch.from_numpy(x), *clusters(torch.from_numpy(x), 25, seed=0))
    assert picks.weight is not None
    weighted = np.average(x[picks.places.numpy()], axis=0, weights=picks.weight.numpy())
    assert np.linalg.norm(weighted - x.mean(0)) < 0.25
    assert picks.weight.sum() == 400


@pytest.mark.parametrize("whole", [1000, 10])
def test_twins_and_zeros_still_give_unique_picks(whole: int) -> None:
    for x in (torch.zeros(12, 3), torch.arange(3.0).repeat_interleave(4)[:, None]):
        for k in (1, 5, 12):
            picks = prototypes(x, *clusters(x, k, seed=1, whole=whole))
            assert len(set(picks.places.tolist())) == k
            assert picks.weight is not None
            assert picks.weight.sum() == 12


def test_mini_batches_find_far_blobs_too() -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(np.concatenate([m + rng.normal(size=(300, 2)) for m in (0, 50, 100)])).float()
    picks = prototypes(x, *clusters(x, 3, seed=0, whole=100))
    assert sorted(i // 300 for i in picks.places.tolist()) == [0, 1, 2]
    assert picks.weight is not None
    assert picks.weight.tolist() == [300, 300, 300]


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads() -> None:
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(3000, 8))).float()
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 4):
            torch.set_num_threads(threads)
            results.append(clusters(x, 20, seed=5)[0])
        assert torch.equal(*results)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
