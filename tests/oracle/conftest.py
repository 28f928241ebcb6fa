"""A small problem in float64 that every oracle test looks at: two or three classes of tiny images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from plain_matching import PlainConvNet

from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, draw
from attar.match.gradients import slots
from attar.nets.build import build
from attar.nets.net import Net
from attar.seeds import Seeds


@dataclass(frozen=True)
class Problem:
    """One step's worth of input, all in one dtype, and the same network twice (``plain`` stays in float64).

    Args:
        real: [K, B, C, H, W], not transformed. kept: [M, C, H, W]. label: int64 [M].
        net, params: attar's network and its tensors. plain: the module with the same numbers.
        ops: siamese parameters, K rows.
    """

    real: torch.Tensor
    kept: torch.Tensor
    label: torch.Tensor
    net: Net
    params: dict[str, torch.Tensor]
    plain: PlainConvNet
    ops: dict[str, torch.Tensor]
    spec: str

    @property
    def classes(self) -> int:
        """K."""
        return len(self.real)

    def rows(self, ops: dict[str, torch.Tensor], label: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters for images of the given classes."""
        return {name: value[label] for name, value in ops.items()}

    def cast(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another precision."""

        def to(tree: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {n: v.to(dtype) if v.is_floating_point() else v for n, v in tree.items()}

        return dataclasses.replace(
            self, real=self.real.to(dtype), kept=self.kept.to(dtype), params=to(self.params), ops=to(self.ops)
        )

    def tables(self) -> dict[str, torch.Tensor]:
        """``slot`` and ``share`` in the problem's dtype."""
        found = slots(self.label, self.classes)
        used = found["share"] > 0
        share = used.to(self.kept.dtype) / used.sum(1, keepdim=True)
        assert torch.allclose(share.float(), found["share"])
        return {"slot": found["slot"], "share": share}


def problem(
    *,
    norm: str = "instance",
    act: str = "relu",
    counts: tuple[int, ...] = (2, 3, 1),
    channels: int = 3,
    side: int = 8,
    batch: int = 5,
    width: int = 4,
    depth: int = 2,
    seed: int = 0,
) -> Problem:
    """A :class:`Problem` in float64; ``counts`` are the kept images of each class."""
    dtype = torch.float64
    g, k = torch.Generator().manual_seed(seed), len(counts)
    spec = f"convnet:depth={depth}:width={width}:norm={norm}:act={act}"
    net = build(spec, channels=channels, size=(side, side), classes=k)
    params = net.init(Seeds(seed).at("oracle"))
    params = {n: v.to(dtype) if v.is_floating_point() else v for n, v in params.items()}
    plain = PlainConvNet(channels, side, k, width=width, depth=depth, norm=norm, act=act).to(dtype)
    plain.load_state_dict(params)
    ops = draw(COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, k, g, size=(side, side), one_op=False)
    return Problem(
        real=torch.randn(k, batch, channels, side, side, generator=g, dtype=dtype),
        kept=torch.randn(sum(counts), channels, side, side, generator=g, dtype=dtype),
        label=torch.repeat_interleave(torch.arange(k), torch.tensor(counts)),
        net=net,
        params=params,
        plain=plain,
        ops={n: v.to(dtype) if v.is_floating_point() else v for n, v in ops.items()},
        spec=spec,
    )


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    """See :func:`problem`."""
    return problem
