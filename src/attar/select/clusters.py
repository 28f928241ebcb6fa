"""Clusters of features, and the real examples that stand for them: what selectors that cluster share."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from attar.execute import pairs
from attar.select.pick import Picks


def partition(
    features: torch.Tensor, k: int, seed: int, *, rounds: int = 100, whole: int = 50_000
) -> tuple[torch.Tensor, torch.Tensor]:
    """k-means from one k-means++ start.

    Args:
        features: float [n, D], finite.
        k: clusters, 1 to n.
        seed: below 2^32.
        rounds: most iterations.
        whole: above this many rows in mini-batches, of four rows a cluster at least.

    Returns:
        centres [k, D] and the cluster of each row int64 [n]; where the rows have fewer than k distinct values some clusters
        are empty.
    """
    x = features.cpu().numpy()
    how: dict[str, Any] = {"n_clusters": k, "init": "k-means++", "n_init": 1, "max_iter": rounds, "random_state": seed}
    # A batch in which most of many centres are the nearest of some row; the others would be moved to random rows.
    many = max(1024, 4 * k)
    model = cluster.KMeans(**how) if len(x) <= whole else cluster.MiniBatchKMeans(**how, batch_size=many)
    # One thread: several add up the centres in the order in which they happen to end, which changes the last bits.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than k: prototypes() copes
        model.fit(x)
    return torch.from_numpy(model.cluster_centers_).to(features), torch.from_numpy(model.labels_).long()


def clusters(
    features: torch.Tensor, k: int, seed: int, *, rounds: int = 100, whole: int = 50_000
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres [k, D] and sizes int64 [k] of :func:`partition`."""
    centres, members = partition(features, k, seed, rounds=rounds, whole=whole)
    return centres, members.bincount(minlength=k)


def from_centre(
    x: torch.Tensor, centres: torch.Tensor, members: torch.Tensor, *, metric: str = "euclidean"
) -> torch.Tensor:
    """The distance of every row to the centre of its cluster: float [n, D], [c, D], int64 [n] -> [n] on the CPU.

    Args:
        metric: of :mod:`attar.execute.pairs`.
    """
    parts = zip(x.split(pairs.BLOCK), members.split(pairs.BLOCK))
    return torch.cat([pairs.distances(a[:, None], centres[m][:, None], metric=metric)[:, 0, 0] for a, m in parts]).cpu()


def prototypes(
    features: torch.Tensor, centres: torch.Tensor, sizes: torch.Tensor, *, metric: str = "euclidean"
) -> Picks:
    """The row nearest to each centre; a row that a larger cluster took leaves the next nearest.

    Args:
        features: float [n, D].
        centres: float [k, D], k <= n.
        sizes: int64 [k], rows of each cluster.
        metric: of :mod:`attar.execute.pairs`.

    Returns:
        Picks by falling cluster size, ties to the lower place; the weights are the sizes.
    """
    first = pairs.lowest(centres, features, metric=metric)[0].cpu()  # [k]
    taken = torch.zeros(len(features), dtype=torch.bool)
    places = torch.empty_like(first)
    for j in _falling(sizes, first):
        i = first[j]
        if taken[i]:
            left = pairs.distances(features, centres[j][None], metric=metric)[:, 0].cpu()  # [n]
            i = left.masked_fill_(taken, torch.inf).argmin()
        places[j], taken[i] = i, True
    order = _falling(sizes, places)
    weight = sizes[order].double()
    return Picks(places[order], weight / sizes.sum(), weight)


def _falling(sizes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The order of the clusters by falling size, then by place."""
    by_place = places.argsort(stable=True)
    return by_place[sizes[by_place].argsort(descending=True, stable=True)]
