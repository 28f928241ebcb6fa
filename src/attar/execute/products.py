"""Large products of matrices in float32 on the CPU, by oneDNN.

torch multiplies float32 matrices by MKL, which leaves half of an AMD processor idle: 205 GFLOP/s on two Zen 5 cores, where
oneDNN, which torch's convolutions use anyway, does 400 (1,024 x 10,000 x 1,024, its copies counted).
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

LARGE = 1e7
"""Multiply-adds from which a copy of both sides costs little beside the product."""


def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x y^T: float [a, D], [b, D] -> [a, b]; without a graph where it is large."""
    if (
        x.dtype == y.dtype == torch.float32
        and x.device.type == "cpu"
        and len(x) * len(y) * x.shape[1] >= LARGE
        and _there()
    ):
        return linear(x.detach().to_mkldnn(), y.detach().to_mkldnn()).to_dense()
    return x @ y.T


def precise() -> bool:
    """Whether torch computes float32 products in float32; its settings may allow it less."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by the newer of two interfaces, which the older one then refuses to tell
        return False


def _there() -> bool:
    return torch.backends.mkldnn.is_available() and not torch.is_autocast_enabled("cpu")
