"""Half precision is for networks: transforms of images give the same bits in the middle of work that runs in it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from attar.augment import crops, dc, idc, siamese
from attar.execute.plan import Plan

ALL = "color_crop_cutout_flip_scale_rotate"
DRAWS: dict[str, tuple[ModuleType, Callable[..., dict[str, torch.Tensor]], tuple[str, ...]]] = {
    "siamese": (siamese, siamese.draw, (ALL,)),
    "idc": (idc, idc.draw, (ALL,)),
    "crops": (crops, crops.draw, ("0.3_flip_patches2",)),
    "dc": (dc, dc.draw, ("crop_scale_rotate_noise",)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_images_are_not_rounded(name: str) -> None:
    module, draw, strategy = DRAWS[name]
    more = {"one_op": False} if name == "siamese" else {}
    x = torch.randn(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    params = draw(*strategy, 24, torch.Generator().manual_seed(1), size=(28, 28), **more)
    with Plan(dtype="bfloat16").applied():
        half = module.augment(x, params)
    assert half.dtype == torch.float32
    assert torch.equal(half, module.augment(x, params))
