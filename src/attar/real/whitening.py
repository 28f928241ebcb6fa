"""ZCA whitening: pixels made uncorrelated by one symmetric matrix, which leaves them looking like pictures.

    W = U (L + epsilon I)^(-1/2) U^T,   U L U^T = X^T X / (N - 1),   X [N, D]: the training images in [0, 1] less their mean m [D]
    whitened(x) = (x - m) W

The convention of the official code of MTT, TESLA, FTD and DATM, which take kornia's: epsilon .1, the covariance over N - 1,
images in [0, 1] that no mean and deviation of their channels has touched. KIP and FRePo standardise first and scale
epsilon by the trace; their sets are whitened otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from attar.io import tensors

EPSILON = 0.1
"""Added to every eigenvalue."""

MEAN, MATRIX = "zca.mean", "zca.matrix"
"""What an artifact calls the two tensors."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Whitening:
    """A fitted transform of images with D = C H W numbers.

    Args:
        mean: m, float [D]. matrix: W, float [D, D], symmetric. epsilon: that it was fitted with.
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    epsilon: float = EPSILON

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels in [0, 1] -> the whitened space: [..., C, H, W]."""
        return self._product(x.flatten(-3) - self.mean.to(x), self.matrix).reshape(
            x.shape
        )  # [..., D] -> [..., C, H, W]

    def undo(self, x: torch.Tensor) -> torch.Tensor:
        """The whitened space -> pixels, not clamped: [..., C, H, W]."""
        return (self._product(x.flatten(-3), self.inverse) + self.mean.to(x)).reshape(
            x.shape
        )  # [..., D] -> [..., C, H, W]

    @cached_property
    def inverse(self) -> torch.Tensor:
        """W^-1 in float64: [D, D]; well conditioned, for no eigenvalue of W is above epsilon^(-1/2)."""
        return torch.linalg.inv(self.matrix.double())

    @cached_property
    def digest(self) -> str:
        """Hash of mean and matrix: what is computed in one whitened space is never found from another."""
        return tensors.digest(tensors.encode(self.tensors))

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """As an artifact keeps them."""
        return {MEAN: self.mean, MATRIX: self.matrix}

    @property
    def facts(self) -> dict[str, object]:
        """What a manifest says of it."""
        return {"kind": "zca", "epsilon": self.epsilon, "digest": self.digest}

    def on(self, device: torch.device | str) -> Whitening:
        """The same transform on ``device``."""
        return replace(self, mean=self.mean.to(device), matrix=self.matrix.to(device))

    @staticmethod
    def _product(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """[..., D] by [D, D], in the precision of ``x`` whatever that of the networks around."""
        with torch.autocast(x.device.type, enabled=False):
            return x @ matrix.to(x)


def whitening_of(exact: Mapping[str, torch.Tensor]) -> Whitening | None:
    """The transform among the tensors of an artifact, or None."""
    return Whitening(mean=exact[MEAN], matrix=exact[MATRIX]) if MATRIX in exact else None


def contradiction(exact: Mapping[str, torch.Tensor], claimed: object, size: int) -> str | None:
    """The first way in which the tensors of an artifact are not the transform that its manifest names, or None.

    Args:
        claimed: the manifest's ``preprocessing.whitening``. size: D.
    """
    found = {name: exact[name] for name in (MEAN, MATRIX) if name in exact}
    shapes = {name: tuple(v.shape) for name, v in found.items() if v.is_floating_point()}
    if shapes != ({MEAN: (size,), MATRIX: (size, size)} if claimed is not None else {}):
        return (
            f"tensors {shapes or 'without whitening'}, but preprocessing with the whitening {claimed} of {size} numbers"
        )
    fitted = whitening_of(exact)
    if fitted is None or (isinstance(claimed, dict) and claimed.get("digest") == fitted.digest):
        return None
    return "a whitening matrix that is not the one of its preprocessing"


def root_of(covariance: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """W = U (L + epsilon I)^(-1/2) U^T of a covariance: float64 [D, D] -> float64 [D, D].

    By one thread, whatever the run's number of them, on which the last bits of eigenvectors depend.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors.mul_((values.clamp(min=0) + epsilon).pow(-0.25))
        matrix = root @ root.T
    finally:
        torch.set_num_threads(threads)
    return (matrix + matrix.T).div_(2)
