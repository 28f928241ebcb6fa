"""A map of the real set: the first two principal components of what a selector compared.

    x_i = (f_i - mean) . u_1,    y_i = (f_i - mean) . u_2,    u_1, u_2 the directions of the largest variance

The directions come from a sample, with the kept examples first in it; then all N examples get their places.
"""

from __future__ import annotations

import torch
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from attar.method import Resources, State
from attar.seeds import Seeds

MOST = 4000
"""Examples of the sample."""
BYTES = 1 << 28
"""Bytes of the sample; wide features make it smaller."""
BLOCK = 4096
AXES = ("pc1", "pc2")


def compared(res: Resources) -> torch.Tensor | None:
    """The features among some resources, [N, D]: their own, or what the last layer of gradients sees; None without any."""
    if "features" in res:
        return res["features"]["features"]
    return next((found["hidden"] for found in res.values() if "hidden" in found), None)


def places(features: torch.Tensor, kept: torch.Tensor, seeds: Seeds) -> State:
    """Where every example stands.

    Args:
        features: float [N, D].
        kept: int64 [M].
        seeds: for the sample.

    Returns:
        ``pc1`` and ``pc2`` float32 [N]; nothing where the features have less than two directions, are all the same or not finite.
    """
    sample = features[_sample(features, kept, seeds)].cpu().float()  # [n, D]
    if min(sample.shape) < 2 or not torch.isfinite(sample).all() or bool((sample == sample[0]).all()):
        return {}
    # One thread: several add up in the order in which they happen to end, which changes the last bits.
    with threadpool_limits(1):
        pca = PCA(n_components=2, random_state=seeds.number("directions") % 2**32).fit(sample.numpy())
    mean, axes = torch.from_numpy(pca.mean_).float(), torch.from_numpy(pca.components_).float()  # [D], [2, D]
    found = torch.cat([(block.cpu().float() - mean) @ axes.T for block in features.split(BLOCK)])  # [N, 2]
    return dict(zip(AXES, found.T.contiguous())) if torch.isfinite(found).all() else {}


def _sample(features: torch.Tensor, kept: torch.Tensor, seeds: Seeds) -> torch.Tensor:
    """Rows for the directions: the kept ones, as far as there is room, then others by chance; int64 [n], ascending."""
    n, width = features.shape
    room = max(2, min(MOST, BYTES // (4 * max(1, width))))
    chance = torch.randperm(n, generator=seeds.generator("sample"))
    first = torch.zeros(n, dtype=torch.bool)
    first[kept.cpu()] = True
    mine, others = chance[first[chance]], chance[~first[chance]]
    return torch.cat([mine, others])[:room].sort().values
